"""The files of an artifact, checked as they are read; needs no torch."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from safetensors import SafetensorError

from models.errors import ArtifactError, TwintideError
from models.model_files import (
    CANDIDATE_GRAPH,
    GOLDEN,
    GRAPH,
    INDICES,
    MEMBER_FILES,
    USER_GRAPH,
    USERS,
    WEIGHTS,
    member_file,
)

T = TypeVar("T")

#: Written into config.json; another layout gets another number.
ARTIFACT_FORMAT = "twintide-artifact-2"

CONFIG, VOCABULARY = "config.json", "vocabulary.msgpack"
ITEM_VECTORS, METRICS, CHECKSUMS = "item_vectors.safetensors", "metrics.json", "checksums.json"
#: Beside the checksums: of dual towers and factors, an adopted encoder, two towers, and a ranker.
FILES = (CONFIG, VOCABULARY, WEIGHTS, ITEM_VECTORS, METRICS)
ADOPTED_FILES = (CONFIG, VOCABULARY, GRAPH, INDICES, ITEM_VECTORS, METRICS)
TWO_TOWER_FILES = (*FILES, USERS)
RANKER_FILES = (CONFIG, VOCABULARY, WEIGHTS, USER_GRAPH, CANDIDATE_GRAPH, GOLDEN, METRICS)

#: Of several rankers in one, beside the files of each.
ENSEMBLE_FILES = (CONFIG, VOCABULARY, GOLDEN, METRICS)

#: What reading a damaged or foreign file may raise.
_UNUSABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    TwintideError,
    SafetensorError,
    msgspec.MsgspecError,
)


def check(file: Path, checksums: Mapping[str, Any]) -> None:
    """Raise ArtifactError where the file is missing or is not the one that was saved."""
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"{file} cannot be read ({error.strerror}): copy or train the artifact again"
        ) from error
    if found != checksums.get(file.name):
        raise ArtifactError(
            f"{file} is damaged: its SHA-256 begins {found[:12]}, {CHECKSUMS} says "
            f"{str(checksums.get(file.name))[:12]}; copy or train the artifact again"
        )


def files_of(checksums: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files that an artifact with these checksums has beside them, by the kind of its model."""
    if member_file(0, CANDIDATE_GRAPH) in checksums:
        return (*ENSEMBLE_FILES, *_files_of_members(checksums))
    if CANDIDATE_GRAPH in checksums:
        return RANKER_FILES
    if USERS in checksums:
        return TWO_TOWER_FILES
    return ADOPTED_FILES if GRAPH in checksums else FILES


def _files_of_members(checksums: Mapping[str, Any]) -> Iterator[str]:
    number = 0
    while member_file(number, CANDIDATE_GRAPH) in checksums:
        yield from (member_file(number, name) for name in MEMBER_FILES)
        number += 1


def checked(directory: Path) -> dict[str, Any]:
    """Return an artifact's checksums. ArtifactError where a file is missing or not the one that was saved."""
    checksums = read_json(directory / CHECKSUMS)
    for name in files_of(checksums):
        check(directory / name, checksums)
    return checksums


def check_whole(directory: Path, version: str) -> None:
    """Raise ArtifactError where a directory does not hold all files of this version as they were saved."""
    checksums = checked(directory)
    if version_of(checksums) != version:
        raise ArtifactError(f"{directory} holds artifact {version_of(checksums)}")


def version_of(checksums: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json({name: checksums[name] for name in files_of(checksums)})).hexdigest()[:12]


def to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def read_json(path: Path) -> dict[str, Any]:
    content = parse(path, lambda: json.loads(path.read_bytes()))
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} is damaged: it holds no JSON object; copy or train the artifact again")
    return content


def config_to_json(config: Mapping[str, Any]) -> bytes:
    """Return what `read_config` reads."""
    return to_json({"format": ARTIFACT_FORMAT, **config})


def read_config(path: Path) -> dict[str, Any]:
    """Return what an artifact says of itself. Raises ArtifactError where it is of another format."""
    config = read_json(path)
    if config.get("format") != ARTIFACT_FORMAT:
        raise ArtifactError(
            f"{path} has format {config.get('format')!r}, this version reads {ARTIFACT_FORMAT!r}: train a "
            "new artifact with `python -m offline.train`"
        )
    return config


def parse(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except _UNUSABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{path} cannot be used ({reason}): copy or train the artifact again") from error
