"""Which rows readers get next: what moved most comes first, within the bytes of a second."""

import numpy as np
import pytest

from stream.items.published import NOTICEABLE, Pace, Published
from stream.store.item_rows import ItemRows, row_bytes, rows_to_bytes

DIMENSION = 8
PACE = Pace(1.0, (1.0, 0.5), (60_000.0, 3_600_000.0))
NOW_MS = 1_000_000


def rows(of: list[int], vectors: "np.ndarray", count: float = 1.0, prefix: str = "i") -> ItemRows:
    return ItemRows(
        np.array(of),
        vectors.astype(np.float32),
        np.full((len(of), 2), count, np.float32),
        np.full(len(of), NOW_MS),
        np.zeros(len(of), np.bool_),
        [f"{prefix}{row}" for row in of],
        ["c"] * len(of),
    )


@pytest.fixture
def published() -> Published:
    made = Published(DIMENSION, PACE)
    made.note(rows([0, 1, 2, 3], np.ones((4, DIMENSION))))
    return made


def moved_by(*lengths: float) -> "np.ndarray":
    vectors = np.ones((len(lengths), DIMENSION))
    vectors[:, 0] += lengths
    return vectors


def test_what_moved_most_comes_first_and_what_hardly_moved_not_at_all(published: Published) -> None:
    now = rows([0, 1, 2, 3, 9], moved_by(0.5, 0.01, 2.0, 1.0, 0.0))
    chosen, waiting = published.choose(now, NOW_MS, 10**6)
    assert now.row[chosen].tolist() == [9, 2, 3, 0]  # readers have nothing of row 9
    assert len(waiting) == 0


def test_what_has_no_room_waits_and_is_not_forgotten(published: Published) -> None:
    now = rows([0, 1, 2, 3], moved_by(0.5, 0.1, 2.0, 1.0))
    budget = 2 * (row_bytes(DIMENSION) + len("i2") + len("c"))
    chosen, waiting = published.choose(now, NOW_MS, budget)
    assert (now.row[chosen].tolist(), now.row[waiting].tolist()) == ([2, 3], [0, 1])
    published.note(now.select(chosen))
    chosen, waiting = published.choose(now, NOW_MS, budget)
    assert (now.row[chosen].tolist(), now.row[waiting].tolist()) == ([0, 1], [])


def test_small_steps_add_up_until_they_are_noticed(published: Published) -> None:
    seen = []
    for step in range(1, 9):
        now = rows([0], moved_by(step * NOTICEABLE / 3))
        chosen, _ = published.choose(now, NOW_MS, 10**6)
        seen.append(len(chosen))
        published.note(now.select(chosen))
    assert 1 <= sum(seen) <= 4


def test_popularity_moves_a_row_by_what_it_adds_to_a_score(published: Published) -> None:
    now = rows([0], np.ones((1, DIMENSION)), count=np.e * 2 - 1)  # log(1 + p) is greater by 1 than before
    chosen, _ = published.choose(now, NOW_MS, 10**6)
    assert len(chosen) == 1
    decayed = rows([1], np.ones((1, DIMENSION)))
    assert len(published.choose(decayed, NOW_MS + 600_000, 10**6)[0]) == 0  # readers let it decay themselves


def test_row_of_another_item_and_one_that_is_gone_come_before_all_others(published: Published) -> None:
    other = rows([1], np.ones((1, DIMENSION)), prefix="other")
    assert len(published.choose(other, NOW_MS, 10**6)[0]) == 1
    gone = published.gone(np.array([2]))
    chosen, _ = published.choose(gone, NOW_MS, 10**6)
    assert len(chosen) == 1
    published.note(gone)
    assert published.row_of("i2") == -1
    assert len(published.choose(gone, NOW_MS, 10**6)[0]) == 0
    assert published.counts(known=1) == (3, 2)


def test_rows_cost_as_many_bytes_as_the_budget_reckons() -> None:
    many = rows(list(range(1000)), np.random.default_rng(0).normal(size=(1000, DIMENSION)))
    texts = sum(len(item) + len("c") for item in many.item_ids)
    assert len(rows_to_bytes(1, many)) == pytest.approx(1000 * row_bytes(DIMENSION) + texts, rel=0.02)


def test_what_cannot_have_room_is_not_even_looked_at_and_the_same_is_chosen(published: Published) -> None:
    of = [0, 2, *range(5, 25)]
    now = rows(of, np.vstack([moved_by(0.5, 2.0), np.ones((20, DIMENSION))]))
    for fitting in (0, 3, 40):
        budget = fitting * (row_bytes(DIMENSION) + len("i22") + len("c"))
        some, late = published.with_room(now.row, budget)
        chosen, waiting = published.choose(now, NOW_MS, budget)
        places = np.flatnonzero(np.isin(now.row, some))
        found, left = published.choose(now.select(places), NOW_MS, budget)
        assert now.row[places[found]].tolist() == now.row[chosen].tolist()
        assert sorted([*now.row[places[left]], *late]) == sorted(now.row[waiting])
        assert len(chosen) >= min(fitting, len(of))
    assert {0, 2} <= {*published.with_room(now.row, 0)[0].tolist()}  # what readers have may have moved


def test_an_item_that_is_new_waits_for_none_that_the_model_knows(published: Published) -> None:
    now = rows(list(range(4, 40)), np.ones((36, DIMENSION)))
    budget = 3 * (row_bytes(DIMENSION) + len("i39") + len("c"))
    chosen, _ = published.choose(now, NOW_MS, budget)
    assert now.row[chosen].tolist() == [39, 38, 37]  # the model's own have the first rows
    assert {37, 38, 39} <= {*published.with_room(now.row, budget)[0].tolist()}
