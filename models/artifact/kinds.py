"""The files of an artifact -> the model of the kind that they say."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from models.adopted.indices import Indices
from models.adopted.onnx_model import OnnxModel
from models.adopted.settings import EncoderSettings
from models.artifact.files import CONFIG, parse
from models.artifact.mapped_arrays import mapped_arrays, mapped_or_compressed
from models.artifact.settings import ArtifactSettings
from models.encoder import Model
from models.errors import ArtifactError
from models.factors.factor_model import FactorModel
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.inference.tower_model import TowerModel
from models.item_table import ItemTable
from models.model_files import (
    ADOPTED,
    FACTORS,
    GRAPH,
    INDICES,
    RECURRENT_GRAPH,
    TOWERS,
    TWO_TOWER,
    USERS,
    WEIGHTS,
)
from models.recurrent_graph.recurrent_graph_model import RecurrentGraphModel
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.recurrent_graph.weights import RecurrentGraphWeights
from models.towers.weights import TowerWeights
from models.two_tower.settings import TwoTowerSettings
from models.two_tower.two_tower_model import TwoTowerModel
from models.two_tower.weights import UserTower

if TYPE_CHECKING:
    from models.towers.dual_towers import DualTowers


def model_of(
    directory: Path,
    config: Mapping[str, Any],
    settings: ArtifactSettings,
    vocabulary: Vocabulary,
    items: ItemTable,
) -> Model:
    """Return the model of the kind that config.json names; dual towers where it names none, as once.

    Raises ArtifactError, naming the file that is damaged.
    """
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
