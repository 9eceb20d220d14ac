"""Models of every kind, and compressed towers, take over from each other: real servers, and the proof."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import redis

from local.worker import WorkerProcess, worker_environment
from models.arrays import Floats
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.embeddings import Embeddings
from models.encoder import Model
from models.events import Event
from models.factors.factor_model import FactorModel
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.inference.tower_model import TowerModel
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.towers.loading import towers_of
from models.two_tower.settings import TwoTowerSettings
from models.two_tower.two_tower_model import TwoTowerModel
from models.two_tower.weights import UserTower
from offline.compressing.weights import compressed
from stream.serving.reader import Reader
from stream.serving.recommender import Recommender
from stream.settings import Settings
from stream.store.model_registry import ModelRegistry
from tests.integration.shop import ITEMS, Shop
from tests.models.made_graphs import made_graph

pytestmark = pytest.mark.integration

USERS = [f"user {number}#ü" for number in range(40)]


def _values(*shape: int) -> Floats:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _factors(like: Artifact) -> Model:
    values = _values(len(like.item_ids), 9)
    weights = FactorWeights(_values(1), values[:, 0], values[:, 1:])
    return FactorModel(weights, FactorSettings(factors=8), like.vocabulary.item_categories)


def _two_towers(like: Artifact) -> Model:
    """Return two towers that know every other user beside their windows."""
    settings = TwoTowerSettings(dimension=8, event_dimension=6, units=(7,))
    item, category = _values(like.vocabulary.item_count, 6), _values(like.vocabulary.category_count, 6)
    layers = ((_values(16, 7), _values(7)), (_values(7, 8), _values(8)))
    tower = UserTower(_values(21, 4), item, category, layers)
    return TwoTowerModel(tower, settings, USERS[::2], _values(len(like.item_ids), 8))


def _compressed(like: Artifact) -> Model:
    """Return the dual towers as bytes, and without their smallest weights."""
    assert isinstance(like.model, TowerModel)
    weights, features = compressed(like.model.weights, int8=True, share=0.3), like.settings.features
    towers = partial(towers_of, weights, like.vocabulary, features)
    return TowerModel(weights, features, towers, leaves_zeros_out=True)


def _gru_beside_gcn(like: Artifact) -> Model:
    return made_graph(RecurrentGraphSettings("gru", "gcn", dimension=8), like.vocabulary)


def _lstm_beside_gat(like: Artifact) -> Model:
    return made_graph(RecurrentGraphSettings("lstm", "gat", dimension=8), like.vocabulary)


def _events(user_id: str, count: int) -> list[Event]:
    """Return what `Shop.send` has sent of a user's events."""
    numbers = [each for each in range(count) if USERS[each * 7 % 40] == user_id]
    return [
        Event(user_id, f"i{n * 13 % ITEMS}", 1 + n % 4, 1_417_000_000_000 + n * 60_000, f"c{n % 3}")
        for n in numbers
    ]


def test_every_kind_takes_over_and_its_vectors_online_are_those_offline(
    shop: Shop,
    settings: Settings,
    artifact: Artifact,
    redis_client: "redis.Redis",
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    store = tmp_path / "artifacts"
    shop.settings = settings = replace(settings, artifact=store)
    registry = ModelRegistry(redis_client, settings.key_prefix)
    reader = Reader(redis_client, key_prefix=settings.key_prefix)
    worker, sent = WorkerProcess(tmp_path / "worker", worker_environment(settings)), 0
    try:
        for make in (_factors, _two_towers, _gru_beside_gcn, _lstm_beside_gat, _compressed):
            saved = artifacts.save_model(
                store, make(artifact), artifact.vocabulary, artifact.settings, {}, {"of": "test"}
            )
            artifacts.publish(store, saved.version)
            if not sent:
                worker.start()

            def serves(version: str = saved.version) -> bool:
                models = registry.read()
                return models is not None and models.serving.version == version

            until(serves, 60)
            shop.send(200, first=sent)
            sent += 200
            shop.send(1, first=sent)
            sent += 1
            found = shop.prove()
            assert found.is_ok, found.complaint
            assert found.applied == sent
            loaded = artifacts.load(store)
            ask = Embeddings(loaded)
            for user_id, read in zip(USERS, reader.read(USERS), strict=True):
                assert (read.model, read.reason) == (saved.version, "")
                expected = ask.get_user_embedding(user_id, _events(user_id, sent))
                np.testing.assert_allclose(read.vec, expected, atol=1e-4)
            (stranger,) = reader.read(["nobody"])
            assert stranger.reason == "cold_start"
            np.testing.assert_allclose(stranger.vec, ask.get_user_embedding("nobody"), atol=1e-4)
            best = Recommender(reader, store).recommend(USERS[0], k=5)
            by_hand = ask.recommend_items(USERS[0], k=5, events=_events(USERS[0], sent))
            assert best.item_ids == [item_id for item_id, _ in by_hand]
    finally:
        worker.kill()
