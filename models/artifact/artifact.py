"""A trained model as a directory: saved whole or not at all, loaded checked, refused with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import safetensors.numpy

from models.adopted.indices import Indices
from models.adopted.onnx_model import OnnxModel
from models.adopted.settings import EncoderSettings
from models.arrays import Floats
from models.artifact.files import (
    ARTIFACT_FORMAT,
    CONFIG,
    ITEM_VECTORS,
    METRICS,
    VOCABULARY,
    checked,
    parse,
    read_json,
    to_json,
    version_of,
)
from models.artifact.golden_users import check_golden, golden_histories
from models.artifact.live_items import LiveItemsSettings
from models.artifact.mapped_arrays import mapped_arrays, mapped_or_compressed
from models.artifact.stores import find, open_store
from models.artifact.writing import write_version
from models.encoder import Model, UserEncoder, Vectors
from models.errors import ArtifactError
from models.factors.factor_model import FactorModel
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.inference.tower_model import TowerModel
from models.item_table import VECTORS, ItemTable
from models.location import Location
from models.model_files import (
    ADOPTED,
    FACTORS,
    GRAPH,
    INDICES,
    RANKER,
    RECURRENT_GRAPH,
    TOWERS,
    TWO_TOWER,
    USERS,
    WEIGHTS,
)
from models.recurrent_graph.recurrent_graph_model import RecurrentGraphModel
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.recurrent_graph.weights import RecurrentGraphWeights
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from models.towers.weights import TowerWeights
from models.two_tower.settings import TwoTowerSettings
from models.two_tower.two_tower_model import TwoTowerModel
from models.two_tower.weights import UserTower
from models.windows.histories import Histories
from models.windows.window import WindowSettings

if TYPE_CHECKING:
    from models.towers.dual_towers import DualTowers

#: Under what `training` says of a compressed model from which it was made, and how.
COMPRESSED = "compressed"


@dataclass(frozen=True, slots=True)
class ArtifactSettings:
    """What must be the same wherever this model is used."""

    window: WindowSettings = field(default_factory=WindowSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    live_items: LiveItemsSettings = field(default_factory=LiveItemsSettings)

    @property
    def gap_ms(self) -> int:
        """The pause that ends a session (ms)."""
        return self.features.gap_ms


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
        CONFIG: to_json({"format": ARTIFACT_FORMAT, **config}),
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
    config = read_json(directory / CONFIG)
    if config.get("format") != ARTIFACT_FORMAT:
        raise ArtifactError(
            f"{directory / CONFIG} has format {config.get('format')!r}, this version reads "
            f"{ARTIFACT_FORMAT!r}: train a new artifact with `python -m offline.train`"
        )
    if config.get("encoder") == RANKER:
        raise ArtifactError(
            f"{directory} holds a ranker, and a model that makes vectors is wanted: name another artifact"
        )
    settings = parse(directory / CONFIG, lambda: _settings_of(config["settings"]))
    vocabulary = parse(
        directory / VOCABULARY, lambda: Vocabulary.from_bytes((directory / VOCABULARY).read_bytes())
    )
    vectors = parse(directory / ITEM_VECTORS, lambda: mapped_or_compressed(directory / ITEM_VECTORS))
    items = parse(directory / ITEM_VECTORS, lambda: ItemTable(vectors))
    model = _model(directory, config, settings, vocabulary, items)
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


def _model(
    directory: Path,
    config: Mapping[str, Any],
    settings: ArtifactSettings,
    vocabulary: Vocabulary,
    items: ItemTable,
) -> Model:
    """Return the model of the kind that config.json names; dual towers where it names none, as once."""
    kind = config.get("encoder", TOWERS)
    if kind == TOWERS:
        return parse(directory / WEIGHTS, lambda: _tower_model(directory / WEIGHTS, vocabulary, settings))
    if kind == ADOPTED:
        wanted = parse(directory / CONFIG, lambda: msgspec.convert(config[kind], EncoderSettings))
        indices = parse(directory / INDICES, lambda: Indices.from_bytes((directory / INDICES).read_bytes()))
        return OnnxModel(directory / GRAPH, wanted, indices, items.read())
    if kind == FACTORS:
        form = parse(directory / CONFIG, lambda: msgspec.convert(config[kind], FactorSettings))
        return parse(directory / WEIGHTS, lambda: _factor_model(directory / WEIGHTS, vocabulary, form))
    if kind == TWO_TOWER:
        sizes = parse(directory / CONFIG, lambda: msgspec.convert(config[kind], TwoTowerSettings))
        users = directory / USERS
        user_ids = parse(users, lambda: msgspec.msgpack.decode(users.read_bytes(), type=list[str]))
        tower = parse(
            directory / WEIGHTS, lambda: _user_tower(directory / WEIGHTS, vocabulary, sizes, len(user_ids))
        )
        return parse(users, lambda: TwoTowerModel(tower, sizes, user_ids, items.read()))
    if kind == RECURRENT_GRAPH:
        shape = parse(directory / CONFIG, lambda: msgspec.convert(config[kind], RecurrentGraphSettings))
        return parse(directory / WEIGHTS, lambda: _graph_model(directory / WEIGHTS, vocabulary, shape))
    raise ArtifactError(
        f"{directory / CONFIG} has a model of the kind {kind!r}, unknown to this version: update "
        "it, or publish a model of another kind"
    )


def _settings_of(stored: Mapping[str, Any]) -> ArtifactSettings:
    """Return an artifact's settings; those that did not exist when it was made are what was done then."""
    model = {"item_length": "free", **stored.get("model", {})}
    return msgspec.convert({**stored, "model": model}, ArtifactSettings)


def _tower_model(weights: Path, vocabulary: Vocabulary, settings: ArtifactSettings) -> TowerModel:
    """Return the towers on the file's weights as they are mapped into memory: a host's workers share them."""
    arrays = mapped_or_compressed(weights)
    arrays.setdefault("direct.again", np.ones((), np.float32))  # what artifacts did before they had it
    categories = np.pad(vocabulary.item_categories, (FIRST_KNOWN, 0))
    found = TowerWeights(arrays, settings.model, categories)
    found.check(vocabulary.item_count, vocabulary.category_count, settings.features)

    def towers() -> "DualTowers":
        from models.towers.loading import towers_of

        return parse(weights, lambda: towers_of(found, vocabulary, settings.features))

    return TowerModel(found, settings.features, towers)


def _factor_model(weights: Path, vocabulary: Vocabulary, settings: FactorSettings) -> FactorModel:
    found = FactorWeights.of_arrays(mapped_arrays(weights))
    found.check(len(vocabulary.item_ids), settings)
    return FactorModel(found, settings, vocabulary.item_categories)


def _user_tower(weights: Path, vocabulary: Vocabulary, settings: TwoTowerSettings, users: int) -> UserTower:
    tower = UserTower.of_arrays(mapped_arrays(weights))
    tower.check(users, vocabulary.item_count, vocabulary.category_count, settings)
    return tower


def _graph_model(
    weights: Path, vocabulary: Vocabulary, settings: RecurrentGraphSettings
) -> RecurrentGraphModel:
    found = RecurrentGraphWeights.of_arrays(mapped_arrays(weights))
    found.check(len(vocabulary.item_ids), vocabulary.category_count, settings)
    return RecurrentGraphModel(found, settings)


def publish(store: Location, version: str) -> int:
    """Make a version the store's active artifact and return its publication number. Raises ArtifactError."""
    return open_store(store).publish(version)
