"""The padded inputs of an adopted encoder are what a plain loop over each user's events makes them."""

from typing import Literal

import numpy as np
import pytest

from models.adopted.columns import encoder_columns
from models.adopted.indices import Indices
from models.adopted.settings import INPUTS, EncoderSettings
from models.errors import SettingsError
from models.windows.histories import Histories

#: Items 2 to 9 are known, as 100 and following; 4 is not; unknown ones are left out; so is behaviour 3.
INDICES = Indices(
    items=np.array([7, -1, 100, 101, -1, 103, 104, 105, 106, 107]),
    categories=np.array([8, 50, 51, 52]),
    behaviours=np.array([9, 1, 2, -1, 4]),
)
GAP_MS = 60_000


def histories(random: np.random.Generator, users: int) -> Histories:
    counts = random.integers(0, 9, users)
    total = int(counts.sum())
    return Histories(
        item=random.integers(1, 10, total),
        category=random.integers(1, 4, total),
        behaviour=random.integers(1, 5, total).astype(np.uint8),
        time_ms=np.cumsum(random.integers(0, 2 * GAP_MS, total)),
        starts=np.concatenate(([0], np.cumsum(counts))),
    )


def by_hand(whole: Histories, user: int, settings: EncoderSettings) -> dict[str, list[int]]:
    """Return what stands at the places of a user's events, oldest first."""
    events = [
        (
            int(whole.item[place]),
            int(whole.category[place]),
            int(whole.behaviour[place]),
            int(whole.time_ms[place]),
        )
        for place in range(whole.starts[user], whole.starts[user + 1])
    ]
    read = [each for each in events if INDICES.items[each[0]] >= 0 and INDICES.behaviours[each[2]] >= 0]
    read = read[-settings.max_events :]
    found: dict[str, list[int]] = {name: [] for name in INPUTS if name != "length"}
    session, later_ms = 0, read[-1][3] if read else 0
    for item, category, behaviour, time_ms in reversed(read):
        session += later_ms - time_ms > GAP_MS
        later_ms = time_ms
        found["item"].insert(0, int(INDICES.items[item]))
        found["category"].insert(0, int(INDICES.categories[category]))
        found["behaviour"].insert(0, int(INDICES.behaviours[behaviour]))
        found["age_s"].insert(0, (read[-1][3] - time_ms) // 1000)
        found["session"].insert(0, session)
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(5))
def test_inputs_are_those_of_a_plain_loop(seed: int, side: Literal["left", "right"]) -> None:
    whole = histories(np.random.default_rng(seed), 12)
    settings = EncoderSettings(padding=side, max_events=4, gap_ms=GAP_MS)
    columns = encoder_columns(whole, INDICES, settings)
    users = np.random.default_rng(seed).permutation(12)[:7]
    types = {name: np.dtype(np.float32 if name == "age_s" else np.int32) for name in INPUTS}
    found = columns.padded(users, 6, side, types)
    padding = {"item": 7, "category": 8, "behaviour": 9, "age_s": 0, "session": 0}
    for row, user in enumerate(users.tolist()):
        expected = by_hand(whole, user, settings)
        count = len(expected["item"])
        assert found["length"][row] == count
        for name, values in expected.items():
            fill = [padding[name]] * (6 - count)
            assert found[name][row].tolist() == (fill + values if side == "left" else values + fill), name
            assert found[name].dtype == types[name]


def test_nobody_and_nothing_are_padding_alone() -> None:
    none = np.zeros(0, np.int64)
    whole = Histories(none, none, none.astype(np.uint8), none, np.zeros(3, np.int64))
    found = encoder_columns(whole, INDICES, EncoderSettings()).padded(
        np.arange(2), 3, "left", {"item": np.dtype(np.int64), "length": np.dtype(np.int64)}
    )
    assert (found["item"].tolist(), found["length"].tolist()) == ([[7, 7, 7], [7, 7, 7]], [0, 0])


def test_indices_come_back_from_their_bytes() -> None:
    back = Indices.from_bytes(INDICES.to_bytes())
    for name in ("items", "categories", "behaviours"):
        np.testing.assert_array_equal(getattr(back, name), getattr(INDICES, name))


def test_settings_that_make_no_sense_are_refused() -> None:
    for values, said in (
        ({"max_events": 0}, "max_events is 0"),
        ({"width": 5, "max_events": 6}, "does not fit the width 5"),
        ({"padding": "both"}, "padding is 'both'"),
    ):
        with pytest.raises(SettingsError, match=said):
            EncoderSettings(**values)
