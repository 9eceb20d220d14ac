"""Passes end when they bring nothing better, and the best is what is given."""

import math

import pytest

from offline.training.stopping import best_pass, best_place, is_over


@pytest.mark.parametrize(
    ("figures", "patience", "best", "passes"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.9], 2, 0.3, 4),
        ([0.1, 0.3, 0.2, 0.4, 0.5], 2, 0.5, 5),
        ([0.5, 0.5, 0.5], 2, 0.5, 3),
        ([0.9, 0.1, 0.1], 1, 0.9, 2),
        ([math.nan, math.nan, 0.2], 3, 0.2, 3),
        ([0.2, math.nan, 0.1], 1, 0.2, 2),
    ],
)
def test_training_ends_after_so_many_passes_without_a_better_one(
    figures: list[float], patience: int, best: float, passes: int
) -> None:
    done: list[int] = []

    def learn(number: int) -> tuple[int, float]:
        done.append(number)
        return number, figures[number - 1]

    number, figure = best_pass(len(figures), patience, learn, lambda each: each[1])
    assert (figure, number) == (best, figures.index(best) + 1)
    assert done == list(range(1, passes + 1))


def test_the_first_of_equal_ones_is_the_best_and_nothing_is_never_over() -> None:
    assert best_place([0.1, 0.7, 0.7]) == 1
    assert not is_over([], 1)
