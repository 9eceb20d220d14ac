"""What is ranked online is what the models give offline, in one stage and in two, of one version each."""

import logging
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis

from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.errors import ArtifactError
from models.rankers.ensemble import EnsembleSettings
from models.rankers.ensemble_artifact import save_ensemble
from models.rankers.load import load_ranker
from stream.serving import Candidate, Question, Wish
from tests.stream.serving.world import (
    CANDIDATES,
    CATEGORY,
    ITEMS,
    NOW_MS,
    Stream,
    offline_scores,
    ranker_of,
    save_din,
    save_towers,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def towers(store: Path) -> Artifact:
    return save_towers(store)


@pytest.fixture
def stream(redis_client: redis.Redis, towers: Artifact) -> Stream:
    found = Stream(redis_client, towers)
    random = np.random.default_rng(0)
    for number in range(24):  # over-full for the ranker, and one event late
        time_ms = NOW_MS - 4_000_000 + number * 100_000 - (700_000 if number == 20 else 0)
        found.send("u", int(random.integers(ITEMS + 10)), time_ms, 1 + number % 4)
    found.send("v", 3, NOW_MS - 1000)
    return found


@pytest.mark.parametrize("features", [False, True])
def test_online_scores_are_the_offline_ones_after_each_event_of_a_stream(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path, features: bool
) -> None:
    version, module = save_din(tmp_path, features=features)
    ranker = ranker_of(redis_client, store, tmp_path)
    random = np.random.default_rng(1)
    for number in range(20):
        user_id = ("u", "v", "new")[number % 3]
        stream.send(
            user_id, int(random.integers(ITEMS + 10)), NOW_MS - 500_000 + int(random.integers(400_000))
        )
        questions = [Question(each, CANDIDATES) for each in ("u", "nobody", "v", "new")]
        found = ranker.rank_many(questions, now_ms=NOW_MS, at_least={user_id: (7, stream.offset)})
        for each in found:
            offline = offline_scores(module, stream.events.get(each.user.user_id, []), CANDIDATES)
            by_item = dict(zip(each.item_ids, each.scores, strict=True))
            online = [by_item[candidate.item_id] for candidate in CANDIDATES]
            np.testing.assert_allclose(online, offline, atol=1e-4)
            assert each.scores == sorted(each.scores, reverse=True)
            assert (each.ranker, each.unscored) == (version, [])
    assert [each.user.reason for each in found] == ["", "cold_start", "", ""]


def test_several_rankers_as_one_are_served_as_any(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path
) -> None:
    modules, members = [], []
    for seed in (0, 1):
        _, module = save_din(tmp_path / str(seed), seed)
        modules.append(module)
        members.append(load_ranker(str(tmp_path / str(seed))))
    settings = EnsembleSettings("stacked", tuple(each.settings for each in modules), (0.7, -0.2), 0.1)
    made = save_ensemble(tmp_path / "both", members, settings, {}, {})
    artifacts.publish(tmp_path / "both", made.version)
    ranker = ranker_of(redis_client, store, tmp_path / "both")
    found = ranker.rank("u", CANDIDATES, now_ms=NOW_MS, explain=True)
    one, other = (offline_scores(each, stream.events["u"], CANDIDATES) for each in modules)
    by_item = dict(zip(found.item_ids, found.scores, strict=True))
    online = [by_item[candidate.item_id] for candidate in CANDIDATES]
    np.testing.assert_allclose(online, 0.7 * one - 0.2 * other + 0.1, atol=1e-4)
    assert found.ranker == made.version
    assert np.shape(found.attention) == (len(CANDIDATES), len(found.events))


def test_without_a_ranker_scores_are_dot_products_and_who_is_unknown_to_the_model_has_none(
    redis_client: redis.Redis, store: Path, towers: Artifact, stream: Stream
) -> None:
    ranker = ranker_of(redis_client, store)
    found = ranker.rank("u", ["i5", "no such", "i6", "i1"], exclude=["i1"])
    scores = towers.item_vectors @ found.user.vec
    expected = sorted((5, 6), key=lambda item: -scores[item])
    assert found.item_ids == [f"i{item}" for item in expected]
    np.testing.assert_allclose(found.scores, scores[expected], rtol=1e-5)
    assert (found.unscored, found.ranker, found.user.model) == (["no such"], "", towers.version)
    best = ranker.recommend("u", 5)
    seen = set(found.user.history)
    order = [f"i{item}" for item in np.argsort(-scores) if f"i{item}" not in seen]
    assert best.item_ids == order[:5]
    assert ranker.rank("u", order).item_ids == order


def test_two_stages_find_by_the_towers_and_rank_by_the_ranker(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path
) -> None:
    _, module = save_din(tmp_path)
    one, two = ranker_of(redis_client, store), ranker_of(redis_client, store, tmp_path)
    wishes = [Wish("u", 4, recall=9, exclude=["i7"]), Wish("nobody", 4, recall=9, category="c1")]
    recalled = one.recommend_many([replace(wish, k=9) for wish in wishes])
    for wish, found, of in zip(wishes, two.recommend_many(wishes, now_ms=NOW_MS), recalled, strict=True):
        candidates = [Candidate(item, CATEGORY[item]) for item in of.item_ids]
        scores = offline_scores(module, stream.events.get(wish.user_id, []), candidates)
        assert found.item_ids == [of.item_ids[place] for place in np.argsort(-scores)[:4]]
        np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:4], atol=1e-4)
    assert {CATEGORY[item] for item in recalled[1].item_ids} == {"c1"}
    assert not {"i7", *one.rank("u", []).user.history} & set(recalled[0].item_ids)


def test_a_share_of_two_stages_explores_and_the_rest_is_ranked(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path
) -> None:
    _, module = save_din(tmp_path)
    ranker = ranker_of(redis_client, store, tmp_path)
    wish = Wish("u", 6, recall=20, exclude=["i7"], explore=0.5, seed=3)
    plain, found = ranker.recommend_many([replace(wish, explore=0.0), wish], now_ms=NOW_MS)
    assert (len(found.item_ids), len({*found.item_ids}), found.explored_items) == (6, 6, 3)
    drawn = [item for item, is_it in zip(found.item_ids, found.is_explored, strict=True) if is_it]
    assert not {"i7", *found.user.history} & {*found.item_ids}
    assert all(int(item[1:]) >= 48 for item in drawn)  # the least frequent fifth
    others = [item for item in found.item_ids if item not in drawn]
    assert others == [item for item in plain.item_ids if item not in drawn][:3]
    scores = offline_scores(
        module, stream.events["u"], [Candidate(item, CATEGORY[item]) for item in found.item_ids]
    )
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    assert ranker.recommend_many([wish], now_ms=NOW_MS)[0].item_ids == found.item_ids
    assert plain.is_explored == []
    (stranger,) = ranker.recommend_many([replace(wish, user_id="nobody")], now_ms=NOW_MS)
    assert (len(stranger.item_ids), stranger.explored_items) == (6, 3)


def test_candidates_of_another_category_are_left_out_and_a_known_item_has_its_own(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path
) -> None:
    save_din(tmp_path)
    wrong = [Candidate("i1", "c0"), Candidate("i3", "c1"), Candidate("no such", "c1"), Candidate("other", "")]
    for ranker in (ranker_of(redis_client, store), ranker_of(redis_client, store, tmp_path)):
        found = ranker.rank("u", wrong, category="c1")
        assert {*found.item_ids, *found.unscored} == {"i1", "no such"}
        assert ranker.rank("u", []).item_ids == []


def test_explanation_has_the_events_and_what_each_counted_for_each_item(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path
) -> None:
    save_din(tmp_path)
    ranker = ranker_of(redis_client, store, tmp_path)
    found = ranker.rank("u", ["i1", "i2", "i4"], explain=True)
    newest = sorted(stream.events["u"], key=lambda event: (event.time_ms, event.offset))[-10:]
    assert [event.item_id for event in found.events] == [event.item_id for event in newest]
    assert np.shape(found.attention) == (3, 10)
    alone = [ranker.rank("u", [item], explain=True).attention[0] for item in found.item_ids]
    np.testing.assert_allclose(found.attention, alone, atol=1e-5)
    assert ranker.rank("u", ["i1"]).events == []


def test_ranker_that_is_published_is_taken_by_refresh_and_a_damaged_one_is_not(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path
) -> None:
    first, _ = save_din(tmp_path)
    ranker = ranker_of(redis_client, store, tmp_path)
    assert (ranker.refresh(), ranker.version) == (False, first)
    second, module = save_din(tmp_path, seed=1)
    assert ranker.rank("u", CANDIDATES).ranker == first
    assert (ranker.refresh(), ranker.version) == (True, second)
    found = ranker.rank("v", CANDIDATES[:1], now_ms=NOW_MS)
    expected = offline_scores(module, stream.events["v"], CANDIDATES[:1])
    np.testing.assert_allclose(found.scores, expected, atol=1e-4)
    third, _ = save_din(tmp_path, seed=2)
    for file in (tmp_path / third).glob("*.onnx"):
        file.write_bytes(b"x")
    with pytest.raises(ArtifactError, match="damaged"):
        ranker.refresh()
    assert ranker.rank("v", CANDIDATES).ranker == second
    with pytest.raises(ArtifactError, match="no ranker"):
        ranker_of(redis_client, store, store / ranker.rank("u", []).user.model)


def test_workers_that_store_too_little_are_warned_of_once(
    redis_client: redis.Redis,
    store: Path,
    towers: Artifact,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_din(tmp_path)
    stream = Stream(redis_client, towers, history_events=2)
    ranker = ranker_of(redis_client, store, tmp_path)
    for number in range(4):
        stream.send("u", number, NOW_MS + number)
        with caplog.at_level(logging.WARNING):
            ranker.rank_many([Question("nobody", CANDIDATES), Question("u", CANDIDATES)])
        assert len(caplog.records) == (number >= 2)
    assert "reads 3 events of a user, and the workers store 2: set TWINTIDE_STORE_HISTORY" in caplog.text


def test_process_that_is_forked_from_one_that_has_ranked_ranks(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path
) -> None:
    """As gunicorn does it that loads an application, and warms it up, before its workers are forked."""
    save_din(tmp_path)
    ranker = ranker_of(redis_client, store, tmp_path)
    many = [Candidate(f"i{number}") for number in range(300)]  # so many are scored in several threads
    before = ranker.rank("u", many, now_ms=NOW_MS)

    def rank(answers: "multiprocessing.SimpleQueue[list[str]]") -> None:
        answers.put(ranker.rank("u", many, now_ms=NOW_MS).item_ids)

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=rank, args=(answers,))
    child.start()
    child.join(60)
    try:
        assert child.exitcode == 0, "it waits for threads that it does not have"
        assert answers.get() == before.item_ids
    finally:
        child.kill()
