"""A trained model as a directory: saved whole or not at all, loaded checked, refused with the reason."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import msgspec
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError

from models.errors import ArtifactError, TwintideError
from models.features import FeatureSettings, Histories
from models.inference import Floats, Inference, Vectors
from models.publications import CURRENT, publication_of
from models.publications import publish as publish
from models.towers import DualTowers, ModelSettings
from models.vocabulary import Vocabulary
from models.window import WindowSettings

#: Written into config.json; another layout gets another number.
FORMAT = "twintide-artifact-1"

CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocabulary.msgpack", "weights.safetensors"
ITEM_VECTORS, METRICS, CHECKSUMS = "item_vectors.safetensors", "metrics.json", "checksums.json"
FILES = (CONFIG, VOCABULARY, WEIGHTS, ITEM_VECTORS, METRICS)

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

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What must be the same wherever this model is used."""

    window: WindowSettings = field(default_factory=WindowSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)

    @property
    def gap_ms(self) -> int:
        """The pause that ends a session (ms)."""
        return self.features.gap_ms


@dataclass(frozen=True, slots=True)
class Artifact:
    """A trained model, ready to encode.

    version: 12 hex digits of its content; publication: the number under which its store published it last,
    0 for never; item_vectors (I, D), in the order of item_ids; metrics: what training measured; training:
    the settings and the data it was trained with.
    """

    version: str
    publication: int
    settings: Settings
    vocabulary: Vocabulary
    item_vectors: Floats
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]
    towers: DualTowers
    inference: Inference
    path: Path

    @property
    def item_ids(self) -> list[str]:
        """The raw ids of the known items, the most frequent in training first."""
        return self.vocabulary.item_ids

    def encode(self, histories: Histories) -> Vectors:
        """Return the vectors of B users; see `Inference.encode`."""
        return self.inference.encode(histories)


def save(
    store: Path,
    towers: DualTowers,
    vocabulary: Vocabulary,
    settings: Settings,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Artifact:
    """Write an artifact into `store`, under its version, and return it; the same content is written once.

    A crash never leaves half an artifact: the files are written beside it and renamed.
    """
    store.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(prefix=".partial-", dir=store))
    try:
        _write_files(partial, towers, vocabulary, settings, metrics, training)
        version = _version(_read_json(partial / CHECKSUMS))
        target = store / version
        if not target.exists():
            partial.chmod(0o755)
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load(target)


def _write_files(
    directory: Path,
    towers: DualTowers,
    vocabulary: Vocabulary,
    settings: Settings,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
) -> None:
    with torch.inference_mode():
        item_vectors = towers.item_vectors().float().cpu().numpy()
    config = {"format": FORMAT, "settings": asdict(settings), "training": dict(training)}
    weights = {name: tensor.cpu().contiguous() for name, tensor in towers.state_dict().items()}
    contents = {
        CONFIG: _to_json(config),
        VOCABULARY: vocabulary.to_bytes(),
        WEIGHTS: safetensors.torch.save(weights),
        ITEM_VECTORS: safetensors.numpy.save({"item_vectors": np.ascontiguousarray(item_vectors)}),
        METRICS: _to_json(metrics),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (directory / CHECKSUMS).write_bytes(_to_json(checksums))


def load(path: Path) -> Artifact:
    """Return the artifact at `path`: its directory, or a store's, where `current` points at the active one.

    Raises ArtifactError, naming the file, where anything is missing, damaged or of another format. Nothing
    is unpickled.
    """
    directory = _directory_of(path)
    checksums = _read_json(directory / CHECKSUMS)
    for name in FILES:
        _check(directory / name, checksums)
    config = _read_json(directory / CONFIG)
    if config.get("format") != FORMAT:
        raise ArtifactError(
            f"{directory / CONFIG} has format {config.get('format')!r}, this version reads {FORMAT!r}: "
            "train a new artifact with `python -m offline.train`"
        )
    settings = _parse(directory / CONFIG, lambda: msgspec.convert(config["settings"], Settings))
    vocabulary = _parse(
        directory / VOCABULARY, lambda: Vocabulary.from_bytes((directory / VOCABULARY).read_bytes())
    )
    towers = _parse(directory / WEIGHTS, lambda: _mapped_towers(directory / WEIGHTS, vocabulary, settings))
    item_vectors = _parse(
        directory / ITEM_VECTORS,
        lambda: safetensors.torch.load_file(directory / ITEM_VECTORS)["item_vectors"].numpy(),
    )
    version = _version(checksums)
    return Artifact(
        version=version,
        publication=publication_of(directory.parent, version),
        settings=settings,
        vocabulary=vocabulary,
        item_vectors=item_vectors,
        metrics=_read_json(directory / METRICS),
        training=config.get("training", {}),
        towers=towers,
        inference=Inference(towers, settings.features),
        path=directory,
    )


def _mapped_towers(weights: Path, vocabulary: Vocabulary, settings: Settings) -> DualTowers:
    """Return the towers on the file's weights as they are mapped into memory: a host's workers share them."""
    with torch.device("meta"):
        towers = DualTowers(vocabulary, settings.features, settings.model)
    towers.load_state_dict(safetensors.torch.load_file(weights), assign=True)
    return towers.eval()


def _directory_of(path: Path) -> Path:
    """Return the artifact directory that `path` means; ArtifactError where there is none."""
    if (path / CURRENT).is_symlink() and not (path / CURRENT).exists():
        missing = (path / CURRENT).readlink()
        raise ArtifactError(
            f"{path / CURRENT} points at {missing}, which is not there: publish another version"
        )
    directory = path / CURRENT if (path / CURRENT).exists() else path
    if not directory.is_dir():
        raise ArtifactError(f"there is no artifact at {path}: make one with `python -m offline.train`")
    if not (directory / CHECKSUMS).exists():
        raise ArtifactError(
            f"{directory} is not an artifact ({CHECKSUMS} is missing): give a directory that "
            "`python -m offline.train` wrote"
        )
    return directory.resolve()


def _check(file: Path, checksums: Mapping[str, Any]) -> None:
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


def _version(checksums: Mapping[str, Any]) -> str:
    return hashlib.sha256(_to_json({name: checksums[name] for name in FILES})).hexdigest()[:12]


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def _read_json(path: Path) -> dict[str, Any]:
    content = _parse(path, lambda: json.loads(path.read_bytes()))
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} is damaged: it holds no JSON object; copy or train the artifact again")
    return content


def _parse(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except _UNUSABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{path} cannot be used ({reason}): copy or train the artifact again") from error
