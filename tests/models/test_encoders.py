"""What every model that makes vectors must do, whichever its kind."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from models.arrays import Floats
from models.artifact.artifact import Artifact, load, save_model
from models.artifact.embeddings import Embeddings
from models.artifact.settings import ArtifactSettings
from models.encoder import Model
from models.errors import ArtifactError, DataError
from models.events import Event
from models.factors.factor_model import FactorModel
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.ids.vocabulary_file import UNKNOWN
from models.inference.tower_model import TowerModel
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.towers.dual_towers import DualTowers
from models.towers.loading import towers_of
from models.towers.settings import ModelSettings
from models.two_tower.settings import TwoTowerSettings
from models.two_tower.two_tower_model import TwoTowerModel
from models.two_tower.weights import UserTower
from models.windows.histories import Histories
from offline.compressing.weights import compressed
from tests.models.made_graphs import made_graph
from tests.models.made_users import ITEMS, VOCABULARY, made_histories

SETTINGS = ArtifactSettings(model=ModelSettings(dimension=16))
#: Events of each user: none, one, two, as many as a window holds, and more.
LENGTHS = (0, 1, 2, 110, 150)
TOLERANCE = 1e-5


def _compressed() -> Model:
    """Return towers as bytes, half of their weights zero, whose Transformers do something."""
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, SETTINGS.features, SETTINGS.model)
    torch.nn.init.normal_(towers.short_scale)
    torch.nn.init.normal_(towers.long_scale)
    small = compressed(towers.weights(), int8=True, share=0.5)
    make = partial(towers_of, small, VOCABULARY, SETTINGS.features)
    return TowerModel(small, SETTINGS.features, make, leaves_zeros_out=True)


def _factors() -> Model:
    values = np.random.default_rng(0).normal(size=(ITEMS, 9)).astype(np.float32)
    weights = FactorWeights(np.array([0.1], np.float32), values[:, 0], values[:, 1:])
    return FactorModel(weights, FactorSettings(factors=8), VOCABULARY.item_categories)


def _towers() -> Model:
    torch.manual_seed(0)
    return TowerModel.of(DualTowers(VOCABULARY, SETTINGS.features, SETTINGS.model), SETTINGS.features)


def two_towers(users: int = 3) -> TwoTowerModel:
    """Return two towers of random numbers that know some users, u0 and so on."""
    random, settings = (
        np.random.default_rng(0),
        TwoTowerSettings(dimension=8, event_dimension=6, units=(7, 5)),
    )

    def values(*shape: int) -> Floats:
        return random.normal(size=shape).astype(np.float32)

    sizes = (4 + 12, 7, 5, 8)
    layers = tuple((values(*pair), values(pair[1])) for pair in pairwise(sizes))
    item, category = values(VOCABULARY.item_count, 6), values(VOCABULARY.category_count, 6)
    tower = UserTower(values(1 + users, 4), item, category, layers)
    return TwoTowerModel(tower, settings, [f"u{user}" for user in range(users)], values(ITEMS, 8))


def _gru_beside_gcn() -> Model:
    return made_graph(RecurrentGraphSettings("gru", "gcn", dimension=8), VOCABULARY)


def _lstm_beside_gat() -> Model:
    return made_graph(RecurrentGraphSettings("lstm", "gat", dimension=8), VOCABULARY)


MODELS: dict[str, Callable[[], Model]] = {
    "towers": _towers,
    "compressed towers": _compressed,
    "mf": _factors,
    "two-tower": two_towers,
    "gru-gnn": _gru_beside_gcn,
    "lstm-gnn": _lstm_beside_gat,
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifact")


@pytest.fixture(scope="module")
def loaded(model: Model, folder: Path) -> Artifact:
    return save_model(folder, model, VOCABULARY, SETTINGS, {}, {})


def _histories(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Histories:
    return made_histories(lengths, seed)


def test_who_is_encoded_beside_changes_no_vector(model: Model) -> None:
    histories, encoder = _histories(), model.on_cpu()
    together = encoder.encode(histories)
    assert (
        together.user.shape
        == (len(LENGTHS), encoder.dimension)
        == (len(LENGTHS), model.item_vectors().shape[1])
    )
    assert np.isfinite(together.user).all()
    for user in range(len(histories)):
        alone = encoder.encode(histories.take(np.array([user])))
        np.testing.assert_allclose(alone.user, together.user[user : user + 1], atol=TOLERANCE)
    assert encoder.encode(histories.take(np.zeros(0, np.int64))).user.shape == (0, encoder.dimension)


def test_a_history_longer_than_a_window_is_its_newest_events(model: Model) -> None:
    whole = _histories((150,))
    newest = whole.select(np.arange(40, 150), np.array([0, 110]))
    found, expected = (model.on_cpu().encode(each).user for each in (whole, newest))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_every_event_may_change_the_vector_and_the_newest_does(model: Model) -> None:
    histories = _histories((8,))
    before = model.on_cpu().encode(histories).user
    item = histories.item.copy()
    item[-1] = 2 + (item[-1] + 5) % ITEMS
    category = VOCABULARY.categories_of(item, histories.category)
    other = Histories(item, category, histories.behaviour, histories.time_ms, histories.starts)
    assert np.abs(model.on_cpu().encode(other).user - before).max() > 1e-3


def test_an_unseen_item_enters_by_its_category(model: Model) -> None:
    def of_category(category: int) -> Histories:
        nothing = np.zeros(1, np.int64)
        item, kind = nothing + UNKNOWN, np.ones(1, np.uint8)
        return Histories(item, nothing + category, kind, nothing, np.array([0, 1]))

    encoder = model.on_cpu()
    one, other = (encoder.encode(of_category(category)).user for category in (2, 3))
    assert np.isfinite(one).all() and np.abs(one - other).max() > 1e-4
    assert np.isfinite(encoder.encode(of_category(UNKNOWN)).user).all()


def test_what_is_loaded_encodes_as_what_was_saved(model: Model, loaded: Artifact) -> None:
    loaded.check_golden()
    histories = _histories()
    np.testing.assert_allclose(
        loaded.encode(histories).user, model.on_cpu().encode(histories).user, atol=1e-6
    )
    np.testing.assert_array_equal(loaded.item_vectors, model.item_vectors())
    np.testing.assert_array_equal(loaded.model.item_vectors(), model.item_vectors())


def test_it_is_loaded_and_encodes_without_torch(loaded: Artifact) -> None:
    code = (
        "import sys; from pathlib import Path; from models.artifact.artifact import load; "
        f"load(Path({str(loaded.path)!r})).check_golden(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_artifact_cut_short_is_one_line(loaded: Artifact, tmp_path: Path) -> None:
    for name in loaded.model.files():
        copy = tmp_path / name
        copy.mkdir()
        for file in loaded.path.iterdir():
            (copy / file.name).write_bytes(file.read_bytes()[: -20 if file.name == name else None])
        with pytest.raises(ArtifactError, match="is damaged"):
            load(copy)


def test_embeddings_and_recommendations_need_no_redis(loaded: Artifact) -> None:
    ask = Embeddings(loaded)
    times_ms = [1_000_000, 3_000_000, 2_000_000]
    events = [Event("u1", f"i{time % 40}", 1, time, f"c{time % 6}") for time in times_ms]
    user = ask.get_user_embedding("u1", events)
    np.testing.assert_allclose(user, ask.get_user_embedding("u1", sorted(events, key=lambda each: each.time)))
    found = ask.recommend_items("u1", k=5, events=events, exclude=["i3", "nothing"])
    scores = {item_id: float(ask.get_item_embedding(item_id) @ user) for item_id in VOCABULARY.item_ids}
    del scores["i3"]
    best = sorted(scores, key=lambda item_id: -scores[item_id])[:5]
    assert [item_id for item_id, _ in found] == best
    assert [score for _, score in found] == pytest.approx(
        [scores[item_id] for item_id in best], abs=TOLERANCE
    )
    assert len(ask.recommend_items("nobody", k=1_000)) == ITEMS
    with pytest.raises(DataError, match="knows no item 'i99'"):
        ask.get_item_embedding("i99")
