"""Ranking: the best by dot product, of the vector's version, without what was seen."""

import dataclasses
import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from local.ports import free_port
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.item_vectors import ItemVectors, load_item_vectors
from models.artifact.settings import ArtifactSettings
from models.artifact.version_cache import VersionCache
from models.errors import ArtifactError, UnreachableError
from models.ids.vocabulary import Vocabulary
from models.location import BucketUrl, Location
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from stream.serving.item_index import AnnIndex, ExactIndex, best, search_recall
from stream.serving.live_items import LiveTable
from stream.serving.ranker import Ranker
from stream.serving.read_protocol import UserVectors
from stream.serving.recommender import KEPT_VERSIONS, RETRY_AFTER_S, Recommender
from stream.store.item_rows import ItemRows, ItemsHeader

ITEMS = 60


def make(store: Location, seed: int) -> Artifact:
    torch.manual_seed(seed)
    vocabulary = Vocabulary(
        [f"i{item}" for item in range(ITEMS)], [1 + item % 3 for item in range(ITEMS)], ["c2", "c3"]
    )
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    return artifacts.save(store, towers, vocabulary, settings, {}, {})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def artifact(store: Path) -> Artifact:
    return make(store, 0)


class FixedReader:
    """Reads the same user for ever."""

    def __init__(self, user: UserVectors) -> None:
        self.user = user
        self.categories: list[str] = []

    def read(self, user_ids: list[str], category: str) -> list[UserVectors]:
        self.categories.append(category)
        return [self.user for _ in user_ids]


def user(artifact: Artifact, history: tuple[str, ...] = (), seed: int = 0) -> UserVectors:
    vec = np.random.default_rng(seed).normal(size=16).astype(np.float32)
    recent = msgspec.json.encode(history) if history else b""
    return UserVectors("u", vec, vec, vec, artifact.version, 1, 1, 0.0, 1, "", recent)


def recommender(store: Path, of: UserVectors, **options: object) -> Recommender:
    return Recommender(FixedReader(of), store, **options)  # type: ignore[arg-type]


def test_item_vectors_are_the_artifacts(artifact: Artifact) -> None:
    items = load_item_vectors(artifact.path)
    assert (items.version, items.item_ids) == (artifact.version, artifact.item_ids)
    np.testing.assert_array_equal(items.vectors, artifact.item_vectors)
    assert items.categories[:4].tolist() == ["", "c2", "c3", ""]
    assert items.row_of["i7"] == 7


def test_damaged_item_vectors_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path, 3).path
    content = bytearray((path / "item_vectors.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "item_vectors.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"item_vectors\.safetensors is damaged"):
        load_item_vectors(path)


@pytest.mark.parametrize("k", [1, 10, ITEMS, ITEMS + 5])
def test_best_items_come_first(store: Path, artifact: Artifact, k: int) -> None:
    of = user(artifact)
    scores = artifact.item_vectors @ of.vec
    found = recommender(store, of).recommend("u", k)
    expected = np.argsort(-scores)[:k]
    assert found.item_ids == [f"i{item}" for item in expected]
    np.testing.assert_allclose(found.scores, scores[expected], rtol=1e-6)


def test_seen_and_excluded_items_are_left_out_and_others_take_their_place(
    store: Path, artifact: Artifact
) -> None:
    first = recommender(store, user(artifact)).recommend("u", 6).item_ids
    of = user(artifact, history=(first[0], first[2], "no such item"))
    assert recommender(store, of).recommend("u", 3, exclude=[first[1], "another"]).item_ids == first[3:6]


def test_category_has_its_own_best(store: Path, artifact: Artifact) -> None:
    of = user(artifact)
    everything = recommender(store, of).recommend("u", ITEMS).item_ids
    of_category = [item for item in everything if int(item[1:]) % 3 == 1]
    found = recommender(store, of).recommend("u", 4, category="c2", exclude=of_category[:1])
    assert found.item_ids == of_category[1:5]
    assert recommender(store, of).recommend("u", 4, category="no such").item_ids == []


def test_vectors_are_read_at_the_category_that_is_asked_for(store: Path, artifact: Artifact) -> None:
    reader = FixedReader(user(artifact))
    ranking = Recommender(reader, store)  # type: ignore[arg-type]
    everything = ranking.recommend("u", 5)
    assert ranking.recommend("u", 5, at_category="c2").item_ids == everything.item_ids
    of_category = ranking.recommend("u", 5, category="c3", at_category="c2")
    assert of_category.item_ids == ranking.recommend("u", 5, category="c3").item_ids
    assert reader.categories == ["", "c2", "c2", "c3"]


def test_items_are_of_the_vectors_version_and_few_are_kept(store: Path, artifact: Artifact) -> None:
    versions = [artifact, *(make(store, seed) for seed in range(1, 4))]
    ranking = recommender(store, user(artifact))
    for each in versions:
        of = user(each)
        expected = np.argsort(-(each.item_vectors @ of.vec))[:5]
        assert ranking.rank(of, 5).item_ids == [f"i{item}" for item in expected]
        assert len(ranking._loaded) <= KEPT_VERSIONS
    with pytest.raises(ArtifactError, match="there is no artifact at"):
        ranking.prepare("no such version")


def test_approximate_search_that_looks_everywhere_is_exact(store: Path, artifact: Artifact) -> None:
    pytest.importorskip("faiss")
    of = user(artifact)
    exact = recommender(store, of).recommend("u", 10)
    found = recommender(store, of, make_index=lambda vectors: AnnIndex(vectors, 1.0)).recommend("u", 10)
    assert found.item_ids == exact.item_ids


def test_approximate_search_finds_most(artifact: Artifact) -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(1)
    centres = random.normal(size=(50, 16))
    vectors = (centres[random.integers(0, 50, 5_000)] + 0.3 * random.normal(size=(5_000, 16))).astype("f4")
    queries = (centres + 0.3 * random.normal(size=(50, 16))).astype("f4")
    exact, approximate = ExactIndex(vectors), AnnIndex(vectors)
    found = search_recall(
        [approximate.search(query, 20)[0] for query in queries],
        [exact.search(query, 20)[0] for query in queries],
    )
    assert 0.8 < found <= 1.0


@given(st.lists(st.floats(-10, 10, width=32), max_size=30), st.integers(0, 40))
def test_best_are_the_greatest(scores: list[float], k: int) -> None:
    values = np.array(scores, np.float32)
    places, found = best(values, k)
    assert found.tolist() == sorted(scores, reverse=True)[:k]
    assert values[places].tolist() == found.tolist()
    assert len(set(places.tolist())) == len(places)


@pytest.mark.integration
def test_items_come_from_a_bucket_and_one_that_is_away_is_not_asked_by_every_caller(
    bucket: BucketUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, now_s = make(bucket, 5), [100.0]
    shutil.rmtree(VersionCache().home)  # it was made on another host
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    of = user(made)
    ranker = Recommender(FixedReader(of), f"{bucket}/current", clock=lambda: now_s[0])  # type: ignore[arg-type]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnreachableError, match="cannot be reached"):
        ranker.recommend("u")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        ranker.recommend("u")
    now_s[0] += RETRY_AFTER_S
    found = ranker.recommend("u", k=3)
    assert found.item_ids == [made.item_ids[row] for row in np.argsort(-(made.item_vectors @ of.vec))[:3]]


class FixedItems:
    """Live items that stay as they are."""

    def __init__(self, artifact: Artifact, *, count: float = 0.0) -> None:
        popular = np.zeros(16, np.float32)
        popular[-1] = 1
        self.table = LiveTable(load_item_vectors(artifact.path), popular)
        header = ItemsHeader(1, 1, 1, 0, ITEMS, (1.0, 0.0), (60_000.0, 60_000.0), 1_000, 0)
        new = ItemRows(
            np.array([5, ITEMS, ITEMS + 1]),
            np.stack([np.full(16, 3.0), np.full(16, 2.0), np.full(16, 9.0)]).astype(np.float32),
            np.array([[count, 0], [2 * count, 0], [0, 0]], np.float32),
            np.full(3, 1_000),
            np.array([False, False, True]),
            ["i5", "new", ""],
            ["c3", "c2", ""],
        )
        self.table.take(header, [new])

    def of(self, items: ItemVectors) -> tuple[LiveTable, str]:
        return self.table, ""

    def keep(self, versions: set[str]) -> None:
        pass


def test_trained_and_new_items_are_scored_together(store: Path, artifact: Artifact) -> None:
    of = user(artifact)
    live = FixedItems(artifact, count=3.0)
    expected = {f"i{row}": artifact.item_vectors[row, :-1] @ of.vec[:-1] for row in range(ITEMS)}
    expected["i5"] = 3 * of.vec.sum() + np.log1p(3)
    expected["new"] = 2 * of.vec.sum() + np.log1p(6)
    order = sorted(expected, key=lambda item: -expected[item])
    found = recommender(store, of, live_items=live).recommend("u", 200)
    assert found.item_ids == order
    assert (found.not_live, found.new_items) == ("", 1)
    np.testing.assert_allclose(found.scores, [expected[item] for item in order], rtol=1e-4, atol=1e-4)
    ranker = Ranker(FixedReader(of), recommender(store, of, live_items=live))  # type: ignore[arg-type]
    assert ranker.recommend("u", 200).new_items == 1
    assert ranker.recommend("u", 200, exclude=["new"]).new_items == 0
    of_category = [item for item in order if item == "new" or (item != "i5" and int(item[1:]) % 3 == 1)]
    found = recommender(store, of, live_items=live).recommend("u", 5, category="c2", exclude=["new"])
    assert found.item_ids == [item for item in of_category if item != "new"][:5]
    trained = recommender(store, of, live_items=live).recommend("u", 5, fresh=False)
    assert trained.item_ids == recommender(store, of).recommend("u", 5).item_ids
    assert (trained.not_live, trained.new_items) == ("they are not asked for", 0)


def test_stranger_gets_what_is_popular_now_of_a_category_too(store: Path, artifact: Artifact) -> None:
    stranger = dataclasses.replace(user(artifact), reason="cold_start")
    live = FixedItems(artifact, count=3.0)
    assert recommender(store, stranger, live_items=live).recommend("u", 2).item_ids == ["new", "i5"]
    at_category = dataclasses.replace(user(artifact), reason="category")
    assert recommender(store, at_category, live_items=live).recommend("u", 1, category="c3").item_ids == [
        "i5"
    ]
    known = recommender(store, user(artifact), live_items=live).recommend("u", 200).item_ids
    assert (
        recommender(store, at_category, live_items=live).recommend("u", 200, at_category="c3").item_ids
        == known
    )


def test_version_that_serves_after_a_rollback_stays_while_the_next_one_is_loaded(
    store: Path, artifact: Artifact
) -> None:
    first, second, third = artifact, make(store, 11), make(store, 12)
    now_s = [0.0]
    ranking = recommender(store, user(first), clock=lambda: now_s[0])
    for each in (first, second, first, third):  # served, published, rolled back to, published
        now_s[0] += 1
        ranking.prepare(each.version)
    assert set(ranking._loaded) == {first.version, third.version}
