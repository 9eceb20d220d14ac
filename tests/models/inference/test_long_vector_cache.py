"""A kept long vector is the one that would be made anew, whatever happens to its user's window."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ids.vocabulary import Vocabulary
from models.inference.inference import Inference
from models.inference.long_vector_cache import LongVectorCache
from models.inference.tower_model import TowerModel
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from models.windows.histories import Histories, histories_of_windows
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, WindowSettings, window_to_bytes

VOCABULARY = Vocabulary([f"i{n}" for n in range(20)], [2 + n % 3 for n in range(20)], ["c0", "c1", "c2"])
CHOSEN = FeatureSettings(gap_ms=100, short_events=3, long_events=8)
WINDOW = WindowSettings(max_events=10, horizon_ms=2_000)


def inference() -> Inference:
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, CHOSEN, ModelSettings(dimension=8)).eval()
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return TowerModel.of(towers, CHOSEN).on_cpu()


INFERENCE = inference()


def folded(window: Window, offset: int, item: int, time_ms: int, event: int) -> None:
    incoming = IncomingEvent(offset, time_ms, 1 + item % 4, f"i{item}", f"c{item % 3}", event)
    fold(window, incoming, "topic", 0, WINDOW)


# user, item, how much later (or, late, earlier) than the newest so far, and whether it repeats an event id
steps = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 21), st.integers(-300, 300), st.booleans()), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(1, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_kept_vectors_are_those_made_anew_after_any_folds(
    events: list[tuple[int, int, int, bool]], capacity: int, every: int, random: "np.random.Generator"
) -> None:
    kept, windows, now_ms = LongVectorCache(capacity, 8), [Window() for _ in range(4)], 10_000
    for offset, (user, item, later_ms, is_repeat) in enumerate(events):
        now_ms += max(later_ms, 0)
        folded(windows[user], offset, item, now_ms + min(later_ms, 0), 0 if is_repeat else offset)
        if later_ms == 300:
            windows[user] = Window("topic", 0, offset)  # forgotten
        if offset % every == 0:
            users = [each for each in range(4) if random.random() < 0.7]
            histories = histories_of_windows([window_to_bytes(windows[each]) for each in users], VOCABULARY)
            found = INFERENCE.encode_pass(histories, [str(each) for each in users], kept)
            anew = INFERENCE.encode_pass(histories)
            for name in ("user", "long", "short"):
                np.testing.assert_allclose(getattr(found, name), getattr(anew, name), atol=1e-6)


def session(count: int, first_item: int = 0) -> Histories:
    window = Window()
    for number in range(count):
        folded(window, number, (first_item + number) % 20, 1_000 + number, number)
    return histories_of_windows([window_to_bytes(window)], VOCABULARY)


def test_within_a_session_the_long_vector_is_made_only_when_its_part_grows() -> None:
    kept, before = LongVectorCache(5, 8), INFERENCE.made["long"]
    made = []
    for count in range(1, 9):
        INFERENCE.encode_pass(session(count), ["u"], kept)
        made.append(INFERENCE.made["long"] - before)
    assert made == [0, 0, 0, 1, 1, 1, 2, 2]  # the long part is empty until the fourth event


def test_another_users_equal_part_is_not_taken_for_ones_own() -> None:
    kept, before = LongVectorCache(5, 8), INFERENCE.made["long"]
    INFERENCE.encode_pass(session(5), ["u"], kept)
    INFERENCE.encode_pass(session(5), ["v"], kept)
    assert INFERENCE.made["long"] - before == 2


@pytest.mark.parametrize("capacity", [1, 2])
def test_more_users_than_there_is_room_for_are_still_right(capacity: int) -> None:
    kept = LongVectorCache(capacity, 8)
    three = histories_of_windows([window_to_bytes(Window())] * 3, VOCABULARY)
    for _ in range(3):
        INFERENCE.encode_pass(three, ["u", "v", "w"], kept)
        found = INFERENCE.encode_pass(session(7), ["w"], kept)
        np.testing.assert_allclose(found.long, INFERENCE.encode_pass(session(7)).long, atol=1e-6)


def test_user_who_gives_way_within_a_batch_leaves_nothing_behind() -> None:
    """u has the first of two slots and changes, v takes the second, and w takes u's, all in one batch."""
    kept = LongVectorCache(2, 8)

    def batch(*lengths: int) -> Histories:
        windows = []
        for place, length in enumerate(lengths):
            window = Window()
            for number in range(length):
                folded(window, number, (5 * place + number) % 20, 1_000 + number, number)
            windows.append(window)
        return histories_of_windows([window_to_bytes(window) for window in windows], VOCABULARY)

    INFERENCE.encode_pass(batch(5), ["u"], kept)
    whole = batch(8, 8, 8)
    expected = INFERENCE.encode_pass(whole).long
    for users in ([0, 1, 2], [0], [1], [2], [2, 0, 1]):
        names = [["u", "v", "w"][user] for user in users]
        found = INFERENCE.encode_pass(whole.take(np.array(users)), names, kept)
        np.testing.assert_allclose(found.long, expected[users], atol=1e-6)
