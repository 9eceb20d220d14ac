"""What a walk found, as figures and as lines for people."""

import re

import numpy as np

from models.arrays import Doubles
from models.errors import SettingsError
from models.log.times import HOUR_MS, MINUTE_MS, SECOND_MS
from offline.stream_walk.evaluation import LEARNER, StreamEvaluation
from offline.stream_walk.search import Found

#: The units in which an age is given.
UNITS_MS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": 24 * HOUR_MS}


def mean_and_error(gains: Doubles) -> tuple[float, float]:
    """Return the mean of gains (B,) and its standard error."""
    return float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))


def rows_of(found: StreamEvaluation) -> dict[str, dict[str, float]]:
    """Return by ranker NDCG@10, its standard error, and how far it is behind live items, paired."""
    rows = {}
    for name, gains in found.gains.items():
        mean, error = mean_and_error(gains)
        behind, behind_error = mean_and_error(found.gains[LEARNER] - gains)
        rows[name] = {"ndcg@10": mean, "s.e.": error, "behind": behind, "behind s.e.": behind_error}
    return rows


def curve_of(found: StreamEvaluation) -> dict[str, dict[str, float]]:
    """Return the figures by the age of the state."""
    rows = {}
    for lag_ms, gains in found.lags.items():
        mean, error = mean_and_error(gains)
        rows[text_of_age(lag_ms)] = {"ndcg@10": mean, "s.e.": error}
    return rows


def groups_of(found: StreamEvaluation) -> dict[str, dict[str, float]]:
    """Return NDCG@10 by group of targets: how many they are, and by ranker."""
    rows = {}
    for name, belongs in found.groups.items():
        means = {
            ranker: float(gains[belongs].mean()) for ranker, gains in found.gains.items() if belongs.any()
        }
        rows[name] = {"targets": float(belongs.sum()), **means}
    return rows


def text_of_found(found: Found) -> str:
    """Return how items learn best, and whether that is worth it, as one line."""
    live = found.live
    halves = " and ".join(text_of_age(each) for each in live.half_lives_ms)
    return (
        f"live items {'on' if live.is_on else 'off'}: rate {live.rate:g}, weights {live.weights[0]:g} and "
        f"{live.weights[1]:g} of popularity with half-lives {halves}; ndcg@10 {found.learned:.4f}, as "
        f"trained {found.frozen:.4f}, s.e. of the difference {found.error:.4f}, {found.cases:,} targets"
    )


def stream_table(found: StreamEvaluation) -> str:
    """Return all figures as lines."""
    lines = [text_of_found(found.found), ""]
    lines.append(f"{'':34}{'ndcg@10':>9}{'s.e.':>8}{'behind':>9}{'s.e.':>8}  as is best on the part before")
    for name, row in rows_of(found).items():
        figures = f"{row['ndcg@10']:9.4f}{row['s.e.']:8.4f}{row['behind']:9.4f}{row['behind s.e.']:8.4f}"
        lines.append(f"{name:34}{figures}  {found.ways[name]}")
    if found.lags:
        lines += ["", f"{'age of live items':34}{'ndcg@10':>9}{'s.e.':>8}"]
        lines += [f"{age:34}{row['ndcg@10']:9.4f}{row['s.e.']:8.4f}" for age, row in curve_of(found).items()]
    shown = (LEARNER, "as trained", "popularity", "transitions")
    lines += ["", f"{'':34}{'targets':>9}" + "".join(f"{name:>13}" for name in shown)]
    for name, row in groups_of(found).items():
        figures = "".join(f"{row[each]:13.4f}" if each in row else f"{'':13}" for each in shown)
        lines.append(f"{name:34}{row['targets']:9,.0f}{figures}")
    return "\n".join(lines)


def text_of_age(age_ms: int) -> str:
    """Return an age as people write it, in the largest unit that it is a multiple of."""
    unit = next(unit for unit in reversed(UNITS_MS) if age_ms % UNITS_MS[unit] == 0 or unit == "s")
    return f"{age_ms / UNITS_MS[unit]:g}{unit}"


def parse_ages(option: str, text: str) -> list[int]:
    """Return the ages (ms) of an option's text, such as 1s,1m,1h. Raises SettingsError."""
    found = [re.fullmatch(r"(\d+)([smhd])", each.strip()) for each in text.split(",")]
    ages = [int(each[1]) * UNITS_MS[each[2]] for each in found if each]
    if len(ages) < len(found) or not all(ages):
        raise SettingsError(f"{option} is {text!r}; write ages over 0 such as 1s,1m,1h")
    return ages
