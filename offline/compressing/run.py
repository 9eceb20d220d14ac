"""A model -> a smaller one, published where it ranks held-out rows nearly as well."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from models.artifact.artifact import COMPRESSED
from models.artifact.stores import open_store
from models.errors import TwintideError
from models.location import Location
from offline.compressing.contract import Compressible, CompressSettings, check_whole

#: How often a model answers to see how long it takes: the fastest counts.
ROUNDS = 7


class TooLossyError(TwintideError):
    """What was made ranks worse by more than was allowed."""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of all files, bytes of the weights that are read, how long a user takes (us), and how good it is.

    figures: NDCG@10 and others, by name.
    """

    disk_bytes: int
    read_bytes: int
    us_per_user: float
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model before and after, over `rows` rows; loss of NDCG@10 and half its 95 % confidence interval.

    Figures are of the versions that have not learned the rows held out.
    """

    before: Size
    after: Size
    rows: int
    loss: float
    error: float
    version: str
    publication: int


def compress(
    model: Compressible, held_out: Compressible, settings: CompressSettings, into: Location
) -> Compressed:
    """Compress a model and its version that has not learned the held-out rows, and publish the first.

    The two may be one. publication is 0, and nothing is written into the store, where the loss is too large.
    SettingsError where they cannot be made smaller so.
    """
    for each in (model, held_out):
        check_whole(each)
    store = open_store(into)
    store.prepare()
    with TemporaryDirectory() as folder:
        small_held_out = _saved(Path(folder), held_out, settings, held_out.metrics)
        sides = [held_out, small_held_out]
        found = [each.ranked() for each in sides]
        lost = found[0].gains - found[1].gains
        loss, error = float(lost.mean()), float(1.96 * lost.std() / np.sqrt(len(lost)))
        taken_us = _microseconds(sides)
        before, after = (
            Size(_disk_bytes(each), each.read_bytes(), taken_us[place], found[place].figures)
            for place, each in enumerate(sides)
        )
        small, number = small_held_out, 0
        if model.version != held_out.version:
            figures = {"loss": loss, "error": error, "from": model.version}
            said = {"held_out_version": small_held_out.version}
            small = _saved(Path(folder), model, settings, {**model.metrics, COMPRESSED: figures}, said)
        if loss <= settings.max_loss:
            for each in (small_held_out, small):
                store.add(each.directory, each.version)
            number = store.publish(small.version)
    return Compressed(before, after, len(lost), loss, error, small.version, number)


def _saved(
    folder: Path,
    model: Compressible,
    settings: CompressSettings,
    metrics: Mapping[str, Any],
    said: Mapping[str, Any] | None = None,
) -> Compressible:
    """Write a model made smaller into a folder, and return it as it is loaded from there."""
    how = {"from": model.version, "int8": settings.int8, "prune": settings.prune}
    return model.smaller(folder, settings, metrics, {**model.training, COMPRESSED: how, **(said or {})})


def _disk_bytes(model: Compressible) -> int:
    return sum(file.stat().st_size for file in model.directory.iterdir())


def _microseconds(models: Sequence[Compressible]) -> list[float]:
    """Return how long each takes for a user, one after the other in each round."""
    fastest = [np.inf] * len(models)
    for _ in range(ROUNDS):
        for place, model in enumerate(models):
            began_s = time.perf_counter()
            users = model.answer()
            fastest[place] = min(fastest[place], (time.perf_counter() - began_s) / users * 1e6)
    return fastest
