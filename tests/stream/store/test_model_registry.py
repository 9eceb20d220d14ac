"""Which models are live, on a real Redis: every change is whole, safe to repeat, and takes a new number."""

from typing import Any

import pytest
import redis

from stream.store.model_registry import ModelChangeError, ModelRegistry
from stream.store.registry_state import LiveModel

pytestmark = pytest.mark.integration

A, B, C = "model-a", "model-b", "model-c"


@pytest.fixture
def registry(redis_client: redis.Redis) -> ModelRegistry:
    registry = ModelRegistry(redis_client, "test-registry:")
    redis_client.delete(registry.key)
    return registry


def test_nothing_is_live_before_the_first_model(registry: ModelRegistry) -> None:
    assert registry.read() is None
    with pytest.raises(ModelChangeError, match="no model serves at twintide:models:test-registry:"):
        registry.rollback(A)
    found = registry.serve(A, 7)
    assert found == registry.read()
    assert (found.serving, found.second, found.latest) == (LiveModel(A, 7), None, 7)
    assert found.switched_at_ms > 1_600_000_000_000


def test_first_model_that_is_staged_serves_at_once(registry: ModelRegistry) -> None:
    assert registry.stage(A, 1, partitions=4).serving == LiveModel(A, 1)


def test_staged_model_serves_when_every_partition_is_reported(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    found = registry.stage(B, 2, partitions=2, coverage=0.9)
    assert (found.serving.version, found.staged, found.previous) == (A, LiveModel(B, 2), None)
    assert registry.report_coverage(B, 0, 100, 100).serving.version == A
    assert registry.report_coverage(C, 1, 50, 50).serving.version == A, "another model's"
    assert registry.report_coverage(B, 1, 34, 50).serving.version == A, "134 of 150 are less than 90 %"
    assert registry.progress().covered == {0: (100, 100), 1: (34, 50)}
    found = registry.report_coverage(B, 1, 35, 50)
    assert (found.serving, found.staged, found.previous) == (LiveModel(B, 2), None, LiveModel(A, 1))
    assert registry.progress().covered == {}
    assert registry.report_coverage(B, 1, 0, 50) == found, "it serves already"


def test_partition_without_users_counts_as_covered(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    registry.stage(B, 2, partitions=1)
    assert registry.report_coverage(B, 0, 0, 0).serving.version == B


def test_staging_again_keeps_what_is_reported(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    registry.stage(B, 2, partitions=2)
    registry.report_coverage(B, 0, 1, 1)
    again = registry.stage(B, 2, partitions=1)
    assert again.staged == LiveModel(B, 2)
    assert registry.progress().covered == {0: (1, 1)}
    registry.stage(C, 3, partitions=1)
    assert registry.progress().covered == {}


def test_staging_what_serves_changes_nothing(registry: ModelRegistry) -> None:
    before = registry.serve(A, 1)
    assert registry.stage(A, 2, partitions=1) == before


def test_number_that_is_not_greater_than_all_before_gives_way_to_the_next(registry: ModelRegistry) -> None:
    registry.serve(A, 10)
    assert registry.stage(B, 3, partitions=1).second == LiveModel(B, 11)
    assert registry.stage(C, 20, partitions=1).second == LiveModel(C, 20)


def test_coverage_is_a_share(registry: ModelRegistry) -> None:
    with pytest.raises(ModelChangeError, match=r"coverage is 95; it must be from 0 to 1"):
        registry.stage(A, 1, partitions=1, coverage=95)


def test_rollback_takes_a_new_number_and_can_be_rolled_back(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    registry.serve(B, 2)
    found = registry.rollback(B)
    assert (found.serving, found.previous) == (LiveModel(A, 3), LiveModel(B, 2))
    assert registry.rollback(B) == found, "repeated, it changes nothing"
    found = registry.rollback(A)
    assert (found.serving, found.previous) == (LiveModel(B, 4), LiveModel(A, 3))


def test_rollback_needs_a_model_that_is_kept(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    with pytest.raises(ModelChangeError, match="model model-a serves and no previous one is kept"):
        registry.rollback(A)
    registry.serve(B, 2)
    registry.stage(C, 3, partitions=1)
    with pytest.raises(ModelChangeError, match="no previous one is kept"):
        registry.rollback(B)


def test_retired_model_is_not_live(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    registry.stage(B, 2, partitions=1)
    assert registry.retire(C).second == LiveModel(B, 2)
    assert registry.retire(B).second is None
    assert registry.report_coverage(B, 0, 1, 1).serving == LiveModel(A, 1)
    registry.serve(C, 3)
    assert registry.retire(C).live == [LiveModel(C, 3), LiveModel(A, 1)], "what serves stays"
    assert registry.retire(A).live == [LiveModel(C, 3)]


def test_older_model_does_not_take_over(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    found = registry.serve(B, 2)
    assert registry.serve(A, 1) == found
    assert registry.serve(B, 2) == found


def test_staged_model_may_serve_before_it_is_covered(registry: ModelRegistry) -> None:
    registry.serve(A, 5)
    registry.stage(B, 2, partitions=4)
    assert registry.serve(B, 2).live == [LiveModel(B, 6), LiveModel(A, 5)]


def test_what_redis_lost_is_put_back(registry: ModelRegistry, redis_client: redis.Redis) -> None:
    registry.serve(A, 1)
    registry.stage(B, 2, partitions=1)
    before_the_switch: dict[Any, Any] = redis_client.hgetall(registry.key)
    known = registry.report_coverage(B, 0, 1, 1)
    redis_client.delete(registry.key)
    assert registry.restore(known) == known
    redis_client.delete(registry.key)
    redis_client.hset(registry.key, mapping=before_the_switch)
    assert registry.restore(known) == known
    newer = registry.rollback(B)
    assert registry.restore(known) == newer, "others know better"
    assert registry.read() == newer


def test_restoring_forgets_coverage_of_what_may_be_lost(registry: ModelRegistry) -> None:
    registry.serve(A, 1)
    registry.stage(B, 2, partitions=2)
    known = registry.report_coverage(B, 0, 1, 1)
    registry.restore(known)
    assert registry.progress().covered == {}


def test_key_prefixes_are_apart(registry: ModelRegistry, redis_client: redis.Redis) -> None:
    registry.serve(A, 1)
    assert ModelRegistry(redis_client, "test-registry-2:").read() is None
