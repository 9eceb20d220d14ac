"""A ranker's artifact -> what serves it; needs no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy

from models.adopted.session import Session
from models.arrays import Ints
from models.artifact.files import (
    CONFIG,
    VOCABULARY,
    checked,
    parse,
    read_config,
    read_json,
    version_of,
)
from models.artifact.stores import find
from models.errors import ArtifactError, NoArtifactError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import PADDING, UNKNOWN
from models.location import Location, location
from models.model_files import CANDIDATE_GRAPH, ENSEMBLE, GOLDEN, RANKER, USER_GRAPH, WEIGHTS, member_file
from models.ranker import Ranker
from models.rankers.compiled_candidates import CompiledCandidates, can_compile
from models.rankers.ensemble import EnsembleRanker, EnsembleSettings
from models.rankers.golden import check_scores, golden_questions
from models.rankers.onnx_ranker import OnnxRanker, Run
from models.rankers.settings import RankerSettings


@dataclass(frozen=True, slots=True)
class LoadedRanker:
    """A ranker that is ready to serve.

    version: 12 hex digits of its content; directory: where its files are; item_categories (I + 2,) the
    category index of each item index, of padding and unknown too; settings: among others max_events and
    horizon_ms, how far back it reads; training: what its artifact says of how it was trained.
    """

    ranker: Ranker
    vocabulary: Vocabulary
    version: str
    directory: Path
    item_categories: Ints
    settings: RankerSettings
    training: Mapping[str, Any]


def load_ranker(where: str | Location, threads: int = 1) -> LoadedRanker:
    """Return the ranker at a path or URL: one artifact by itself, or the active one of a store.

    Golden users are asked: their scores must be those that were saved. threads: that score candidates.
    Raises ArtifactError, naming the file, where anything is missing, damaged, of another kind or computes
    otherwise.
    """
    directory = _directory_of(location(where) if isinstance(where, str) else where)
    checksums = checked(directory)
    config = _config_of(directory / CONFIG)
    settings = parse(directory / CONFIG, lambda: msgspec.convert(_stored(config[RANKER]), RankerSettings))
    vocabulary = parse(
        directory / VOCABULARY, lambda: Vocabulary.from_bytes((directory / VOCABULARY).read_bytes())
    )
    ranker = _ranker(directory, config, settings, threads)
    version = version_of(checksums)
    stored = parse(
        directory / GOLDEN, lambda: safetensors.numpy.load((directory / GOLDEN).read_bytes())["score"]
    )
    check_scores(version, ranker.rank(*golden_questions(vocabulary)).score, stored)
    categories = np.concatenate(([PADDING, UNKNOWN], vocabulary.item_categories))
    training = config.get("training", {})
    return LoadedRanker(ranker, vocabulary, version, directory, categories, settings, training)


def _directory_of(where: Location) -> Path:
    """Return where a ranker's files are on this host. Raises ArtifactError, which says how one is made."""
    try:
        return find(where).directory
    except NoArtifactError as error:
        raise NoArtifactError(error.place, "python -m offline.train --model din") from error


def is_ranker(where: Location) -> bool:
    """Return whether an artifact, or the active one of a store, says that it is a ranker. ArtifactError."""
    return read_json(find(where).directory / CONFIG).get("encoder") == RANKER


def _ranker(directory: Path, config: Mapping[str, Any], settings: RankerSettings, threads: int) -> Ranker:
    """Return what scores: one, or several together."""
    if ENSEMBLE not in config:
        return _one(directory, settings, threads, lambda name: name)
    ensemble = parse(directory / CONFIG, lambda: _ensemble(config[ENSEMBLE]))
    members = [
        _one(directory, of_member, threads, partial(member_file, number))
        for number, of_member in enumerate(ensemble.members)
    ]
    return EnsembleRanker(members, ensemble)


def _ensemble(stored: Mapping[str, Any]) -> EnsembleSettings:
    members = [_stored(each) for each in stored["members"]]
    return msgspec.convert({**stored, "members": members}, EnsembleSettings)


def _stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they were meant: a ranker that was saved before there were features has none."""
    return {"features": False, **settings}


def _one(
    directory: Path, settings: RankerSettings, threads: int, file_of: Callable[[str], str]
) -> OnnxRanker:
    """Return a ranker whose files are called so."""
    of_user = Session(directory / file_of(USER_GRAPH), "cpu", 1)
    graph, weights = directory / file_of(CANDIDATE_GRAPH), directory / file_of(WEIGHTS)
    return OnnxRanker(of_user, _of_candidates(graph, weights, settings, threads), settings)


def _of_candidates(graph: Path, file: Path, settings: RankerSettings, threads: int) -> Run:
    """Return the graph, or machine code of the same weights where that is faster."""
    if not can_compile(settings):
        return Session(graph, "cpu", threads)
    return parse(file, lambda: CompiledCandidates(settings, safetensors.numpy.load_file(file), threads))


def _config_of(file: Path) -> dict[str, Any]:
    """Return what a ranker's artifact says of itself. Raises ArtifactError where it is none."""
    config = read_config(file)
    if config.get("encoder") != RANKER:
        raise ArtifactError(
            f"{file.parent} holds a model of the kind {config.get('encoder')!r}, and no ranker: "
            "make one with `python -m offline.train --model din`"
        )
    return config
