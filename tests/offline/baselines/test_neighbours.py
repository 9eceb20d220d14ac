"""Baselines by neighbours and by factors, on two groups of users who share no item."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import read_behaviour_log
from models.windows.window import WindowSettings
from offline.baselines import neighbours
from offline.baselines.counting import baselines
from offline.ranking.protocols import Cases, cases_leave_one_out, without_repeats
from offline.ranking.scorers import ranks_by

DAY_MS = 86_400_000


def cases_of(folder: Path, sequences: dict[str, str]) -> tuple[Cases, Vocabulary]:
    """Return leave-one-out cases of users whose items are letters, one a minute, and the vocabulary."""
    lines = ["user_id,item_id,behavior_type,user_geohash,item_category,time"]
    for user, items in sequences.items():
        lines += [f"{user},{item},1,,c,2024-01-01 10:{minute:02}" for minute, item in enumerate(items)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    log = read_behaviour_log(folder / "log.csv")
    vocabulary = vocabulary_of_log(log)
    return cases_leave_one_out(log, vocabulary, WindowSettings()), vocabulary


SEQUENCES = {f"u{n}": "abcdef"[n % 3 :] + "abcdef"[: n % 3] + "a" for n in range(6)} | {
    f"v{n}": "uvwxyz"[n % 3 :] + "uvwxyz"[: n % 3] + "u" for n in range(6)
}


@pytest.mark.parametrize("name", ["item kNN", "session kNN", "ALS"])
def test_users_are_shown_the_items_of_their_group(tmp_path: Path, name: str) -> None:
    if name == "ALS":
        pytest.importorskip("implicit")
    cases, vocabulary = cases_of(tmp_path, SEQUENCES)
    scorers = baselines(cases, vocabulary, 30 * 60_000)
    everyone = np.arange(len(cases.user_ids))
    scores = scorers[name](everyone)
    assert scores.shape == (12, 12)
    for user, row in zip(cases.user_ids, scores, strict=True):
        best = {vocabulary.item_ids[place] for place in np.argsort(-row)[:6]}
        assert best == set("abcdef" if user.startswith("u") else "uvwxyz")


def test_item_neighbours_are_the_cosine_of_their_users(tmp_path: Path) -> None:
    cases, vocabulary = cases_of(tmp_path, {"u": "abx", "v": "acx", "w": "abcx"})
    scores = baselines(cases, vocabulary, DAY_MS)["item kNN"](np.arange(3))
    place = {item: vocabulary.item_ids.index(item) for item in "abc"}
    similar = {"ab": 2 / np.sqrt(3 * 2), "bc": 1 / 2}
    assert scores[0, place["c"]] == pytest.approx(similar["ab"] + similar["bc"], abs=1e-5)
    assert scores[0, place["a"]] == pytest.approx(similar["ab"], abs=1e-5)


def test_own_last_session_is_no_neighbour(tmp_path: Path) -> None:
    cases, vocabulary = cases_of(tmp_path, {"u": "abx", "v": "cdx", "w": "bcx"})
    scores = baselines(cases, vocabulary, DAY_MS)["session kNN"](np.arange(3))
    place = {item: vocabulary.item_ids.index(item) for item in "abcd"}
    assert scores[0, place["c"]] == pytest.approx(1 / np.sqrt(2), abs=1e-5)
    assert scores[0, place["a"]] == pytest.approx(0, abs=1e-5)
    assert scores[1, place["b"]] == pytest.approx(0.5 / np.sqrt(2), abs=1e-5)


def test_seen_items_are_not_ranked_and_repeats_are_left_out(tmp_path: Path) -> None:
    cases, vocabulary = cases_of(tmp_path, {"u": "abc", "v": "aba", "w": "cba"})
    chosen = without_repeats(cases)
    assert chosen.user_ids == ["u", "w"]
    constant = np.tile(-np.arange(3, dtype=np.float64), (3, 1))
    target = [vocabulary.item_ids.index("c"), vocabulary.item_ids.index("a")]
    assert ranks_by(lambda users: constant[users], chosen, exclude_seen=False).tolist() == [
        place + 1 for place in target
    ]
    assert ranks_by(lambda users: constant[users], chosen, exclude_seen=True).tolist() == [1, 1]


def test_log_of_repeats_alone_has_nothing_new_to_ask(tmp_path: Path) -> None:
    cases, _ = cases_of(tmp_path, {"u": "aba", "v": "bab"})
    with pytest.raises(DataError, match="every next item"):
        without_repeats(cases)


def test_neighbours_of_many_sessions_are_searched_some_users_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix of users and sessions would not fit into memory; each part has the same nearest ones."""
    random = np.random.default_rng(0)
    sequences = {f"u{user}": "".join(random.choice(list("abcdefghij"), 12)) for user in range(40)}
    cases, vocabulary = cases_of(tmp_path, sequences)
    everyone = np.arange(len(cases.user_ids))
    together = baselines(cases, vocabulary, DAY_MS)["session kNN"](everyone)
    monkeypatch.setattr(neighbours, "SESSION_NEIGHBOURS", 5)
    few = baselines(cases, vocabulary, DAY_MS)["session kNN"](everyone)
    monkeypatch.setattr(neighbours, "PAIRS_AT_ONCE", 3 * 40)
    in_parts = baselines(cases, vocabulary, DAY_MS)["session kNN"](everyone)
    assert np.abs(few - together).max() > 0.1  # five are fewer than all
    np.testing.assert_array_equal(in_parts, few)
    for user in everyone.tolist():
        assert few[user].tolist() == pytest.approx(by_hand(cases, user, 5, vocabulary), abs=1e-5)


def by_hand(cases: Cases, user: int, count: int, vocabulary: Vocabulary) -> list[float]:
    """Return the scores of one user whose past is one session, as are all others', by loops."""
    pasts = [cases.past.take(np.array([each])).item.tolist() for each in range(len(cases.past))]
    own = pasts[cases.asked[user]]
    weight = {item: sum(1 / (len(own) - at) for at, each in enumerate(own) if each == item) for item in own}
    near = [sum(weight.get(item, 0) for item in set(past)) / len(set(past)) ** 0.5 for past in pasts]
    near[cases.asked[user]] = 0
    least = sorted(near)[-count]
    return [
        sum(near[each] for each, past in enumerate(pasts) if near[each] >= least and index in past)
        for index in range(FIRST_KNOWN, FIRST_KNOWN + len(vocabulary.item_ids))
    ]
