"""Pictures by matplotlib: items and users on a map, what vectors look at, accuracy by a history's age."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints
from models.errors import SettingsError
from offline.evaluation.similarity import place_on_map
from offline.evaluation.staleness import FreshnessCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Groups with a colour of their own, the largest ones.
COLOURS = 10
#: Of a picture (dots per inch).
DPI = 120


def map_plot(vectors: Floats, groups: Ints, names: Sequence[str], things: str, group: str) -> "Figure":
    """Return unit vectors (N, D) on a map as a picture, the largest groups (N,) in a colour of their own."""
    places = place_on_map(vectors)
    figure = new_figure(8, 7)
    axes = figure.subplots()
    largest = np.argsort(-np.bincount(groups), kind="stable")[:COLOURS]
    is_small = ~np.isin(groups, largest)
    axes.scatter(places[is_small, 0], places[is_small, 1], s=6, color="lightgrey", label="other")
    for each in largest:
        own = places[groups == each]
        axes.scatter(own[:, 0], own[:, 1], s=8, label=names[each])
    axes.set(title=f"{len(vectors):,} {things} by their vectors", xticks=[], yticks=[])
    axes.legend(title=group, fontsize="small")
    return figure


def attention_plot(found: Mapping[str, npt.NDArray[np.float64]]) -> "Figure":
    """Return weights (A,) by name as a picture: a row each, the newest event on the right."""
    weights = np.array(list(found.values()))[:, ::-1]  # (R, A)
    shares = weights / np.maximum(np.nanmax(np.abs(weights), axis=1, keepdims=True), 1e-12)
    lowest = min(0.0, float(np.nanmin(shares)))  # the direct path may have negative weights
    figure = new_figure(10, 1.5 + 0.4 * len(found))
    axes = figure.subplots()
    extent = (-weights.shape[1] + 0.5, 0.5, len(found) - 0.5, -0.5)
    shown = axes.imshow(shares, aspect="auto", extent=extent, vmin=lowest, vmax=1)
    axes.set(yticks=range(len(found)), yticklabels=list(found), xlabel="place of the event; the newest is 0")
    axes.set_title("Which events a user's vector looks at")
    figure.colorbar(shown, label="weight, of the row's largest")
    return figure


def freshness_plot(curve: FreshnessCurve) -> "Figure":
    """Return NDCG@10 by the age of the history as a picture, with 95 % confidence intervals."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    names, found = list(curve.rankings), list(curve.rankings.values())
    errors = [ranking.ndcg_at_10_error for ranking in found]
    axes.errorbar(names, [ranking.ndcg_at_10 for ranking in found], yerr=errors, marker="o", capsize=4)
    axes.set(xlabel="age of the history", ylabel="NDCG@10", ylim=(0, None))
    axes.set_title(f"Accuracy over {curve.targets:,} next items")
    axes.grid(alpha=0.3)
    return figure


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty picture, in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--png needs matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)
