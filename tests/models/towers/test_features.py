"""Features: the batch path equals folding event by event, and the split between the towers moves rarely."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SettingsError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.inference.tower_model import TowerModel
from models.log.behaviour_log import BehaviourLog, Column
from models.towers.dual_towers import DualTowers
from models.towers.features import features
from models.towers.histories import FeatureSettings, event_features
from models.towers.settings import ModelSettings
from models.windows.histories import Histories, histories_of_cold_start, histories_of_windows
from models.windows.log_histories import histories_of_log
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, WindowSettings, window_to_bytes

VOCABULARY = Vocabulary(["i0", "i1", "i2"], [2, 3, 2], ["c0", "c1"])
Split = Literal["session", "ratio"]
HOUR_MS = 3_600_000
SPLITS: tuple[Split, ...] = ("session", "ratio")

Row = tuple[int, int, int, int, int]
rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.integers(1, 4), st.integers(0, 40)),
    max_size=60,
)


def column(prefix: str, codes: list[int], size: int) -> Column:
    values = np.array([f"{prefix}{code}" for code in range(size)], dtype=object)
    return Column(np.array(codes, dtype=np.int32), values)


def log_of(events: list[Row]) -> BehaviourLog:
    users, items, categories, behaviours, hours = (
        (list(c) for c in zip(*events, strict=True)) if events else [[]] * 5
    )
    return BehaviourLog(
        path="log.csv",
        fingerprint="0",
        precision_ms=HOUR_MS,
        user=column("u", users, 4),
        item=column("i", items, 5),
        category=column("c", categories, 3),
        geohash=column("", [0] * len(events), 1),
        behaviour=np.array(behaviours, dtype=np.uint8),
        time_ms=np.array(hours, dtype=np.int64) * HOUR_MS,
        line=np.arange(len(events)) + 2,
    )


def folded(log: BehaviourLog, window_settings: WindowSettings) -> dict[str, Window]:
    windows: dict[str, Window] = {}
    ordered = log.in_time_order()
    for offset in range(len(ordered)):
        event = IncomingEvent(
            offset=offset,
            time_ms=int(ordered.time_ms[offset]),
            behaviour=int(ordered.behaviour[offset]),
            item_id=ordered.item.strings()[offset],
            category=ordered.category.strings()[offset],
            event_hash=int(ordered.line[offset]),
        )
        window = windows.setdefault(ordered.user.strings()[offset], Window())
        fold(window, event, "topic", 0, window_settings)
    return windows


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 12), st.integers(1, 40))
def test_batch_histories_equal_folding_event_by_event(
    events: list[Row], max_events: int, horizon_hours: int
) -> None:
    window_settings = WindowSettings(max_events, horizon_hours * HOUR_MS)
    log = log_of(events)
    windows = folded(log, window_settings)
    user_ids, batch = histories_of_log(log, VOCABULARY, window_settings)
    assert sorted(user_ids) == sorted(windows)
    live = histories_of_windows([window_to_bytes(windows[user_id]) for user_id in user_ids], VOCABULARY)
    for name in ("item", "category", "behaviour", "time_ms", "starts"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(live, name), err_msg=name)


def test_until_leaves_out_the_event_at_that_time_and_users_without_earlier_ones() -> None:
    log = log_of([(0, 0, 0, 1, 5), (0, 1, 1, 1, 6), (1, 2, 0, 1, 6), (0, 2, 0, 1, 4)])
    user_ids, histories = histories_of_log(log, VOCABULARY, WindowSettings(), until_ms=6 * HOUR_MS)
    assert user_ids == ["u0"]
    assert histories.item.tolist() == [FIRST_KNOWN + 2, FIRST_KNOWN]


def test_vectors_of_both_paths_agree() -> None:
    random = np.random.default_rng(0)
    highest = (4, 5, 3, 5, 99)
    events = [tuple(random.integers((0, 0, 0, 1, 0), highest).tolist()) for _ in range(600)]
    window_settings = WindowSettings(110, 90 * HOUR_MS)
    log = log_of(events)
    windows = folded(log, window_settings)
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, FeatureSettings(), ModelSettings(dimension=16))
    user_ids, batch = histories_of_log(log, VOCABULARY, window_settings)
    live = histories_of_windows([window_to_bytes(windows[user_id]) for user_id in user_ids], VOCABULARY)
    inference = TowerModel.of(towers, FeatureSettings()).on_cpu()
    offline = inference.encode(batch).user
    one_by_one = [inference.encode(live.take(np.array([user]))).user[0] for user in range(4)]
    np.testing.assert_allclose(offline, np.array(one_by_one), atol=1e-5)


def history(hours: list[int]) -> Histories:
    count = len(hours)
    return Histories(
        item=np.arange(count) + FIRST_KNOWN,
        category=np.full(count, 2),
        behaviour=np.ones(count, np.uint8),
        time_ms=np.array(hours, dtype=np.int64) * HOUR_MS,
        starts=np.array([0, count]),
    )


def test_short_tower_reads_the_last_events_and_long_tower_those_before_the_session() -> None:
    batch = features(history([0, 1, 50, 51, 52]), FeatureSettings(gap_ms=2 * HOUR_MS, short_events=4))
    assert batch.long.item.tolist() == [[2, 3]]
    assert batch.short.item.tolist() == [[3, 4, 5, 6]]
    assert batch.short.session.tolist() == [[0, 1, 1, 1]]


def test_long_part_changes_only_with_a_session_or_every_k_events() -> None:
    derived = event_features(history([0] * 25 + [90]), FeatureSettings(gap_ms=HOUR_MS, short_events=10))
    assert derived.boundary.tolist() == [0] * 10 + [10] * 10 + [20] * 5 + [25]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=110), st.sampled_from(SPLITS))
def test_every_event_is_read_by_some_tower_and_the_newest_by_the_short_one(
    pauses: list[int], split: Split
) -> None:
    chosen = FeatureSettings(gap_ms=2 * HOUR_MS, split=split)
    whole = history(np.cumsum(pauses).tolist())
    batch = features(whole, chosen)
    read = {*batch.long.item.flatten().tolist(), *batch.short.item.flatten().tolist()}
    assert set(whole.item[-100:].tolist()) <= read
    assert batch.short.item[0, -1] == whole.item[-1]
    assert whole.item[-1] not in batch.long.item[0].tolist()


def test_ratio_gives_the_short_tower_a_tenth() -> None:
    batch = features(history(list(range(41))), FeatureSettings(split="ratio"))
    assert batch.short.count.tolist() == [5]
    assert batch.long.count.tolist() == [36]


def test_full_window_leaves_the_long_tower_its_hundred_events_until_k_more_have_come() -> None:
    """A cached long vector stays right while the window slides within one session."""
    hours = [3 * place for place in range(100)] + [600] * 30
    seen = []
    for end in range(111, 120):
        window = history(hours[end - 110 : end])
        item = np.arange(end - 110, end)
        window = Histories(item, window.category, window.behaviour, window.time_ms, window.starts)
        seen.append(features(window, FeatureSettings(gap_ms=2 * HOUR_MS)).long.item[0].tolist())
    assert seen == [list(range(10, 110))] * len(seen)


def test_no_users_and_users_without_events_have_empty_tensors() -> None:
    none = history([])
    assert features(none, FeatureSettings()).short.item.shape == (1, 0)
    assert features(none.take(np.array([], dtype=np.int64)), FeatureSettings()).long.item.shape == (0, 0)


@pytest.mark.parametrize("wrong", [{"gap_ms": 0}, {"short_events": 0}, {"split": "half"}])
def test_settings_name_what_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        FeatureSettings(**wrong)


def test_cold_start_user_at_a_category_is_one_view_of_an_item_that_training_never_saw() -> None:
    def view(category: str) -> bytes:
        return window_to_bytes(
            Window(
                times_ms=[HOUR_MS], behaviours=[1], item_ids=["new"], categories=[category], event_hashes=[7]
            )
        )

    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, FeatureSettings(), ModelSettings(dimension=16)).eval()
    windows = [view("c1"), window_to_bytes(Window()), view("c0")]
    lived = histories_of_windows(windows, VOCABULARY)
    cold_start = histories_of_cold_start(["c1", "", "c0"], VOCABULARY)
    inference = TowerModel.of(towers, FeatureSettings()).on_cpu()
    for name in ("user", "long", "short"):
        expected = getattr(inference.encode(lived), name)
        np.testing.assert_array_equal(getattr(inference.encode(cold_start), name), expected)
    assert len(np.unique(inference.encode(cold_start).user, axis=0)) == 3
    assert len(histories_of_cold_start([], VOCABULARY)) == 0
