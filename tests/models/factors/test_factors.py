"""Folding in is the ridge regression of the equations, one number after the other."""

import numpy as np
import pytest

from models.errors import SettingsError
from models.factors.factor_encoder import FactorEncoder
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.windows.histories import Histories

ITEMS, FACTORS = 7, 3
CATEGORIES = np.array([2, 2, 3, 1, 3, 2, 5])  # 1: none; 4: a category without items


def _weights() -> FactorWeights:
    random = np.random.default_rng(0)
    values = random.normal(size=(ITEMS, 1 + FACTORS)).astype(np.float32)
    return FactorWeights(np.array([0.3], np.float32), values[:, 0], values[:, 1:])


def _slow(
    weights: FactorWeights, settings: FactorSettings, events: list[tuple[int, int, int, int]]
) -> list[float]:
    """Return 1, mean + bias and factors of a user from events (item, category, behaviour, time)."""
    mean = float(weights.mean[0])
    size = 1 + FACTORS

    def column(item: int, category: int) -> list[float] | None:
        if item >= 2:
            return [float(weights.item_bias[item - 2]), *weights.item_factors[item - 2].tolist()]
        alike = [place for place in range(ITEMS) if CATEGORIES[place] == category and category >= 2]
        if not alike:
            return None
        columns = [
            [float(weights.item_bias[place]), *weights.item_factors[place].tolist()] for place in alike
        ]
        return [sum(values) / len(alike) for values in zip(*columns, strict=True)]

    left = [[settings.ridge if i == j else 0.0 for j in range(size)] for i in range(size)]
    right = [0.0] * size

    def add(weight: float, value: float, found: list[float]) -> None:
        feature = [1.0, *found[1:]]
        for i in range(size):
            right[i] += weight * (value - mean - found[0]) * feature[i]
            for j in range(size):
                left[i][j] += weight * feature[i] * feature[j]

    for item in range(2, ITEMS + 2):
        add(settings.unseen_weight, 0.0, column(item, 0) or [])
    for item, category, behaviour, time_ms in events[-settings.max_events :]:
        if (found := column(item, category)) is not None:
            age_h = (events[-1][3] - time_ms) / 3_600_000
            weight = 0.5 ** (age_h / settings.half_life_h) if settings.half_life_h else 1.0
            add(weight, settings.behaviour_values[behaviour - 1], found)
    bias, *factors = np.linalg.solve(left, right).tolist()
    return [1.0, mean + bias, *factors]


@pytest.mark.parametrize("half_life_h", [0.0, 5.0])
@pytest.mark.parametrize("unseen_weight", [0.0, 0.4])
def test_a_folded_in_user_is_the_solution_of_the_equations(half_life_h: float, unseen_weight: float) -> None:
    settings = FactorSettings(FACTORS, 0.7, unseen_weight, (1.0, 2.0, 3.0, 5.0), half_life_h, 6)
    random = np.random.default_rng(1)
    users = []
    for length in (0, 1, 2, 6, 11):
        times_ms = np.sort(random.integers(0, 10**8, length)).tolist()
        users.append(
            [
                (
                    int(random.integers(1, ITEMS + 2)),
                    int(random.integers(0, 8)),
                    int(random.integers(1, 5)),
                    time,
                )
                for time in times_ms
            ]
        )
    events = np.array([event for user in users for event in user])
    starts = np.concatenate(([0], np.cumsum([len(user) for user in users])))
    histories = Histories(events[:, 0], events[:, 1], events[:, 2].astype(np.uint8), events[:, 3], starts)
    found = FactorEncoder(_weights(), settings, CATEGORIES).encode(histories).user
    expected = [_slow(_weights(), settings, user) for user in users]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_score_is_the_sum_of_the_three_biases_and_the_product() -> None:
    weights, user = _weights(), np.array([1.0, 0.3 + 0.2, 0.1, -0.4, 0.6], np.float32)
    for item, score in enumerate(weights.vectors() @ user):
        by_hand = 0.3 + 0.2 + weights.item_bias[item]
        by_hand += sum(float(u * v) for u, v in zip(user[2:], weights.item_factors[item], strict=True))
        assert score == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"ridge": 0.0}, "ridge is 0"),
        ({"ridge": float("nan")}, "ridge is nan"),
        ({"factors": 0}, "factors is 0"),
        ({"unseen_weight": -1.0}, "unseen_weight is -1"),
        ({"unseen_weight": 0.0}, "nothing to tell items apart"),
    ],
)
def test_what_has_no_solution_is_one_line(settings: dict[str, float], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        FactorSettings(**settings)  # type: ignore[arg-type]
