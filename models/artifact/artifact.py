"""A trained model as a directory: saved whole or not at all, loaded checked, refused with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy

from models.arrays import Floats
from models.artifact.files import (
    CONFIG,
    ITEM_VECTORS,
    METRICS,
    VOCABULARY,
    checked,
    config_to_json,
    parse,
    read_config,
    read_json,
    to_json,
    version_of,
)
from models.artifact.golden_users import check_golden, golden_histories
from models.artifact.kinds import model_of
from models.artifact.mapped_arrays import mapped_or_compressed
from models.artifact.settings import ArtifactSettings, settings_of
from models.artifact.stores import find, open_store
from models.artifact.writing import write_version
from models.encoder import Model, UserEncoder, Vectors
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.inference.tower_model import TowerModel
from models.item_table import VECTORS, ItemTable
from models.location import Location
from models.model_files import RANKER
from models.windows.histories import Histories

if TYPE_CHECKING:
    from models.towers.dual_towers import DualTowers

#: Under what `training` says of a compressed model from which it was made, and how.
COMPRESSED = "compressed"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A trained model, ready to encode.

    version: 12 hex digits of its content; publication: the number under which its store published it last,
    0 for never; items: the item vectors as they are stored; golden_vectors: see golden_users.py; metrics:
    what training measured; training: the settings and the data it was trained with; encoder: the model's, on
    the CPU.
    """

    version: str
    publication: int
    settings: ArtifactSettings
    vocabulary: Vocabulary
    items: ItemTable
    golden_vectors: Floats | None
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]
    model: Model
    encoder: UserEncoder
    path: Path

    @property
    def item_vectors(self) -> Floats:
        """The vectors (I, D) in the order of item_ids; of a compressed model they are made at each call."""
        return self.items.read()

    @property
    def item_ids(self) -> list[str]:
        """The raw ids of the known items, the most frequent in training first."""
        return self.vocabulary.item_ids

    @property
    def towers(self) -> "DualTowers":
        """The dual towers. Raises ArtifactError where the model is of another kind."""
        if not isinstance(self.model, TowerModel):
            raise ArtifactError(
                f"model {self.version} has no dual towers (it was adopted, or is of another --model): this "
                "learns, turns or looks into them, and needs what offline.train makes without --model"
            )
        return self.model.towers

    def encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        """Return the vectors of B users; see `UserEncoder.encode`."""
        return self.encoder.encode(histories, user_ids)

    def check_golden(self) -> None:
        """Encode the golden users; raise ArtifactError where their vectors are not those that were saved."""
        found = self.encode(golden_histories(self.vocabulary)).user
        check_golden(self.version, found, self.golden_vectors, self.item_vectors)


def save(
    store: Location,
    towers: "DualTowers",
    vocabulary: Vocabulary,
    settings: ArtifactSettings,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Artifact:
    """Write an artifact of dual towers into `store`, under its version, and return it; see `save_model`.

    All is written in full, whatever the towers were made of.
    """
    model = TowerModel.of(towers, settings.features)
    said = {name: value for name, value in training.items() if name != COMPRESSED}
    return save_model(store, model, vocabulary, settings, metrics, said)


def save_model(
    store: Location,
    model: Model,
    vocabulary: Vocabulary,
    settings: ArtifactSettings,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Artifact:
    """Write an artifact into `store`, under its version, and return it; see `write_version`."""
    version = write_version(store, _contents(model, vocabulary, settings, metrics, training))
    return load(store / version)


def _contents(
    model: Model,
    vocabulary: Vocabulary,
    settings: ArtifactSettings,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
) -> dict[str, bytes]:
    if isinstance(model, TowerModel):
        vectors = dict(model.item_arrays())
    else:
        vectors = {VECTORS: np.ascontiguousarray(model.item_vectors())}
    vectors["golden_vectors"] = model.on_cpu().encode(golden_histories(vocabulary)).user
    said = asdict(settings)
    if not isinstance(model, TowerModel):
        del said["model"]  # of the towers alone
    config = {**model.description(), "settings": said, "training": dict(training)}
    return {
        CONFIG: config_to_json(config),
        VOCABULARY: vocabulary.to_bytes(),
        **model.files(),
        ITEM_VECTORS: safetensors.numpy.save(vectors),
        METRICS: to_json(metrics),
    }


def load(where: Location) -> Artifact:
    """Return the artifact at a location: one by itself, or the active one of a store.

    Raises ArtifactError, naming the file, where anything is missing, damaged or of another format. Nothing
    is unpickled.
    """
    found = find(where)
    directory = found.directory
    checksums = checked(directory)
    config = read_config(directory / CONFIG)
    if config.get("encoder") == RANKER:
        raise ArtifactError(
            f"{directory} holds a ranker, and a model that makes vectors is wanted: name another artifact"
        )
    settings = parse(directory / CONFIG, lambda: settings_of(config["settings"]))
    vocabulary = parse(
        directory / VOCABULARY, lambda: Vocabulary.from_bytes((directory / VOCABULARY).read_bytes())
    )
    vectors = parse(directory / ITEM_VECTORS, lambda: mapped_or_compressed(directory / ITEM_VECTORS))
    items = parse(directory / ITEM_VECTORS, lambda: ItemTable(vectors))
    model = model_of(directory, config, settings, vocabulary, items)
    version = version_of(checksums)
    return Artifact(
        version=version,
        publication=found.store.publication_of(version),
        settings=settings,
        vocabulary=vocabulary,
        items=items,
        golden_vectors=vectors.get("golden_vectors"),
        metrics=read_json(directory / METRICS),
        training=config.get("training", {}),
        model=model,
        encoder=model.on_cpu(),
        path=directory,
    )


def publish(store: Location, version: str) -> int:
    """Make a version the store's active artifact and return its publication number. Raises ArtifactError."""
    return open_store(store).publish(version)
