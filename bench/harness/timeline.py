"""How fresh vectors were, over time and from each moment at which something happened to the next."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.harness.report import Result
from models.errors import SettingsError

#: When each timed event was sent (epoch s), and how long it waited (s): (E, 2).
TimedEvents = npt.NDArray[np.float64]

#: Vectors count as fresh again when no event waits longer (s).
FRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, and when (wall-clock, s)."""

    name: str
    at_s: float
    #: How long it took, where a command did it (s).
    took_s: float = math.nan


def freshness_by_moment(moments: list[Moment], samples: TimedEvents) -> dict[str, Result]:
    """Return, from each moment to the next, how fresh the events sent then were, and when all were again."""
    results: dict[str, Result] = {}
    ends = [*(moment.at_s for moment in moments[1:]), np.inf]
    for moment, end_s in zip(moments, ends, strict=True):
        sent_s, waited_s = samples[(samples[:, 0] >= moment.at_s) & (samples[:, 0] < end_s)].T
        if not len(sent_s):
            continue
        stale = waited_s > FRESH_S
        readable_s = (sent_s + waited_s)[stale]
        results[moment.name] = {
            "p50_ms": float(np.percentile(waited_s, 50) * 1000),
            "p99_ms": float(np.percentile(waited_s, 99) * 1000),
            "worst_s": float(waited_s.max()),
            "fresh_after_s": float(readable_s.max() - moment.at_s) if stale.any() else 0.0,
        }
        if not math.isnan(moment.took_s):
            results[moment.name]["took_s"] = moment.took_s
    return results


def draw(moments: list[Moment], samples: TimedEvents, png: Path) -> None:
    """Write the curve as a picture: median and worst of each half second's events, by the time of sending."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--png needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    started_s = moments[0].at_s
    bins = ((samples[:, 0] - started_s) // 0.5).astype(int)
    for name, of_bin in (("median", np.median), ("worst", np.max)):
        places = np.unique(bins)
        values = [of_bin(samples[bins == place, 1]) for place in places]
        axes.plot(places * 0.5, values, label=name, linewidth=1)
    for moment in moments[1:]:
        axes.axvline(moment.at_s - started_s, color="grey", linewidth=0.8)
        axes.text(moment.at_s - started_s, 30, f" {moment.name}", rotation=90, va="top", fontsize=8)
    axes.set(xlabel="event sent (s)", ylabel="until its user's vector is readable (s)")
    axes.set(yscale="log", ylim=(0.005, 40))
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    figure.savefig(png, dpi=120)
