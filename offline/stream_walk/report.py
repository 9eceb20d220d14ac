"""What a walk found, as figures and as lines for people."""

import numpy as np

from models.arrays import Doubles
from models.durations import duration_s, text_of_ms
from offline.stream_walk.evaluation import LEARNER, StreamEvaluation
from offline.stream_walk.search import Found


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
        rows[text_of_ms(lag_ms)] = {"ndcg@10": mean, "s.e.": error}
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
    halves = " and ".join(text_of_ms(each) for each in live.half_lives_ms)
    state, learning = "on" if live.is_on else "off", "all" if live.moves_known else "new ones"
    return (
        f"live items {state}: {learning} learn, rate {live.rate:g}, weights {live.weights[0]:g} and "
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


def parse_ages(option: str, text: str) -> list[int]:
    """Return the ages (ms) of an option's text, such as 1s,1m,1h. Raises SettingsError."""
    return [round(duration_s(option, each) * 1_000) for each in text.split(",")]
