"""`python -m offline.analyse`: how the items' vectors lie to each other, as figures and as a map."""

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from models.artifact import Artifact, load
from models.command import Command, log_to_stderr
from models.errors import DataError, SettingsError
from models.vocabulary import FIRST_KNOWN
from offline.options import artifact_option

#: Items that are drawn and compared at most, the most frequent ones; categories with a colour of their own.
MAX_ITEMS, COLOURS = 2_000, 8
SEED = 0

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Similarity:
    """Mean cosine of two different items' vectors: of one category, and of two."""

    within: float
    between: float


@click.command(cls=Command)
@artifact_option
@click.option(
    "--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw the map too; needs matplotlib."
)
def main(artifact_path: Path, png: Path | None) -> None:
    """Print how similar items of one category are, and of different ones, and draw all on a map.

    The cosine of the item vectors, over all pairs of the 2,000 most frequent items that have a category. The
    map is t-SNE's, by the same cosine; the largest categories have a colour of their own.

    \b
    Example:
      python -m offline.analyse --artifact artifacts --png items.png
    """
    log_to_stderr()
    artifact = load(artifact_path)
    vectors, categories = items_with_category(artifact)
    found = similarity(vectors, categories)
    click.echo(
        f"model {artifact.version}, {len(vectors):,} items of {len(np.unique(categories)):,} categories"
    )
    click.echo(f"mean cosine: {found.within:.4f} within a category, {found.between:.4f} between two")
    if png is not None:
        draw(vectors, categories, artifact.vocabulary.category_ids, png)
        click.echo(png)


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


def draw(vectors: Floats, categories: Ints, names: list[str], png: Path) -> None:
    """Write the map as a picture."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--png needs matplotlib: pip install matplotlib") from error
    places = place_on_map(vectors)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    largest = np.argsort(-np.bincount(categories), kind="stable")[:COLOURS]
    is_small = ~np.isin(categories, largest)
    axes.scatter(places[is_small, 0], places[is_small, 1], s=6, color="lightgrey", label="other")
    for category in largest:
        own = places[categories == category]
        axes.scatter(own[:, 0], own[:, 1], s=8, label=names[category])
    axes.set(title=f"{len(vectors):,} items by their vectors", xticks=[], yticks=[])
    axes.legend(title="category", fontsize="small")
    figure.savefig(png, dpi=120)


if __name__ == "__main__":
    main()
