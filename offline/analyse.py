"""`python -m offline.analyse`: how items' vectors lie to each other, and what users' vectors look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import numpy.typing as npt

from models.artifact.artifact import Artifact, load
from models.command import Command, log_to_stderr
from models.errors import DataError, SettingsError
from models.ids.vocabulary import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from models.towers.histories import Histories
from models.towers.log_histories import histories_of_log
from offline.evaluation.attention import attention
from offline.options import artifact_option, data_path_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Items that are drawn and compared at most, the most frequent ones; categories with a colour of their own.
MAX_ITEMS, COLOURS = 2_000, 8
SEED = 0
#: Of a picture (dots per inch).
DPI = 120
#: Users whose attention is averaged at most.
MAX_USERS = 1_000

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Similarity:
    """Mean cosine of two different items' vectors: of one category, and of two."""

    within: float
    between: float


@click.command(cls=Command)
@artifact_option
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw it too; needs matplotlib.")
@click.option("--attention", "of_attention", is_flag=True, help="Show which events users' vectors look at.")
@data_path_option
@log_format_option
@click.option("--user", "user_id", help="With --attention: this user, instead of the mean over 1,000.")
def main(
    artifact_path: Path,
    png: Path | None,
    of_attention: bool,
    data_path: Path,
    log_format: str,
    user_id: str | None,
) -> None:
    """Print how similar items of one category are, and of different ones, and draw all on a map.

    The cosine of the item vectors, over all pairs of the 2,000 most frequent items that have a category. The
    map is t-SNE's, by the same cosine; the largest categories have a colour of their own.

    With --attention instead: how much the direct path and each head of the towers look at the newest event of
    a user's history, at the one before, and so on, and a heat map of it.

    \b
    Examples:
      python -m offline.analyse --artifact artifacts --png items.png
      python -m offline.analyse --attention --data-path data/behaviour.csv --png attention.png
    """
    log_to_stderr()
    artifact = load(artifact_path)
    if of_attention:
        log = read_cached(data_path, read_log_format(log_format))
        show_attention(artifact, some_histories(artifact, log, user_id), png)
    else:
        show_items(artifact, png)


def show_items(artifact: Artifact, png: Path | None) -> None:
    """Print how similar items are, and draw them on a map where it has a file to go to."""
    vectors, categories = items_with_category(artifact)
    found = similarity(vectors, categories)
    click.echo(
        f"model {artifact.version}, {len(vectors):,} items of {len(np.unique(categories)):,} categories"
    )
    click.echo(f"mean cosine: {found.within:.4f} within a category, {found.between:.4f} between two")
    if png is not None:
        item_map(vectors, categories, artifact.vocabulary.category_ids).savefig(png, dpi=DPI)
        click.echo(png)


def show_attention(artifact: Artifact, histories: Histories, png: Path | None) -> None:
    """Print which events these users' vectors look at, and draw it where it has a file to go to."""
    found = attention(artifact.towers, artifact.settings.features, histories)
    click.echo(f"model {artifact.version}, mean over users: {len(histories):,}")
    for name, weights in found.items():
        click.echo(f"{name:20}{describe(weights)}")
    if png is not None:
        heat_map(found).savefig(png, dpi=DPI)
        click.echo(png)


def some_histories(artifact: Artifact, log: BehaviourLog, user_id: str | None) -> Histories:
    """Return the history of a user of a log, or those of MAX_USERS, evenly spread over all."""
    user_ids, histories = histories_of_log(log, artifact.vocabulary, artifact.settings.window)
    if user_id is None:
        return histories.take(np.unique(np.linspace(0, len(user_ids) - 1, MAX_USERS).astype(np.int64)))
    if user_id not in user_ids:
        raise DataError(f"{log.path} has no user {user_id!r}: name one of its {len(user_ids):,}")
    return histories.take(np.array([user_ids.index(user_id)]))


def describe(weights: npt.NDArray[np.float64]) -> str:
    """Return where most of weights (A,) is; the newest event's is the first."""
    size = np.abs(np.nan_to_num(weights))
    share = np.cumsum(size) / max(size.sum(), 1e-12)
    half = int(np.searchsorted(share, 0.5)) + 1
    first = int(np.flatnonzero(~np.isnan(weights))[0])
    return f"most at {int(size.argmax())} events back, half of it within {half}, reads from {first} back"


def items_with_category(artifact: Artifact) -> tuple[Floats, Ints]:
    """Return the unit vectors (I, D) and categories (I,) of the most frequent items that have one."""
    categories = artifact.vocabulary.item_categories - FIRST_KNOWN
    items = np.flatnonzero(categories >= 0)[:MAX_ITEMS]
    if len(np.unique(categories[items])) < 2:
        raise DataError(
            f"{artifact.path}: its items have fewer than two categories: there is nothing to compare"
        )
    vectors = artifact.item_vectors[items]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12), categories[items]


def similarity(vectors: Floats, categories: Ints) -> Similarity:
    """Return the mean cosines of unit vectors (I, D); nan where no two items share a category."""
    cosine = vectors @ vectors.T
    is_same = categories[:, None] == categories
    is_other = ~is_same
    np.fill_diagonal(is_same, False)
    within = float(cosine[is_same].mean()) if is_same.any() else float("nan")
    return Similarity(within, float(cosine[is_other].mean()))


def place_on_map(vectors: Floats) -> Floats:
    """Return (I, 2): unit vectors that are near by cosine are near on the map. I at least 2."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=SEED)
    places: Floats = model.fit_transform(vectors)
    return places


def item_map(vectors: Floats, categories: Ints, names: list[str]) -> "Figure":
    """Return the map as a picture."""
    places = place_on_map(vectors)
    figure = new_figure(8, 7)
    axes = figure.subplots()
    largest = np.argsort(-np.bincount(categories), kind="stable")[:COLOURS]
    is_small = ~np.isin(categories, largest)
    axes.scatter(places[is_small, 0], places[is_small, 1], s=6, color="lightgrey", label="other")
    for category in largest:
        own = places[categories == category]
        axes.scatter(own[:, 0], own[:, 1], s=8, label=names[category])
    axes.set(title=f"{len(vectors):,} items by their vectors", xticks=[], yticks=[])
    axes.legend(title="category", fontsize="small")
    return figure


def heat_map(found: Mapping[str, npt.NDArray[np.float64]]) -> "Figure":
    """Return weights (A,) by name as a picture: a row each, the newest event on the right."""
    weights = np.array(list(found.values()))[:, ::-1]  # (R, A)
    shares = weights / np.maximum(np.nanmax(np.abs(weights), axis=1, keepdims=True), 1e-12)
    lowest = min(0.0, float(np.nanmin(shares)))  # the direct path may take an item away
    figure = new_figure(10, 1.5 + 0.4 * len(found))
    axes = figure.subplots()
    extent = (-weights.shape[1] + 0.5, 0.5, len(found) - 0.5, -0.5)
    shown = axes.imshow(shares, aspect="auto", extent=extent, vmin=lowest, vmax=1)
    axes.set(yticks=range(len(found)), yticklabels=list(found), xlabel="place of the event; the newest is 0")
    axes.set_title("Which events a user's vector looks at")
    figure.colorbar(shown, label="weight, of the row's largest")
    return figure


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty picture, in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--png needs matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


if __name__ == "__main__":
    main()
