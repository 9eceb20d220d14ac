"""A key prefix is one topic's, on a real Redis."""

import pytest
import redis

from models.errors import SettingsError
from stream.store.prefix_source import HELD_S, PrefixSource

pytestmark = pytest.mark.integration

KEY = "twintide:source:test-source:"


@pytest.fixture(autouse=True)
def nobody(redis_client: redis.Redis) -> None:
    """Have the prefix filled by nobody."""
    redis_client.delete(KEY)


def test_workers_of_one_topic_share_a_prefix_and_those_of_another_are_refused(
    redis_client: redis.Redis,
) -> None:
    ours = [PrefixSource(redis_client, "test-source:", "topic a of Kafka cluster 1") for _ in range(2)]
    other = PrefixSource(redis_client, "test-source:", "topic a of Kafka cluster 2")
    for _ in range(2):
        for each in ours:
            each.claim()
    with pytest.raises(SettingsError, match="filled from topic a of Kafka cluster 1, by workers who were"):
        other.claim()
    PrefixSource(redis_client, "test-source:other:", "topic a of Kafka cluster 2").claim()


def test_a_prefix_is_free_a_while_after_its_last_worker(redis_client: redis.Redis) -> None:
    PrefixSource(redis_client, "test-source:", "topic a").claim()
    assert 0 < redis_client.ttl(KEY) <= HELD_S
    redis_client.delete(KEY)  # as Redis does by then
    PrefixSource(redis_client, "test-source:", "topic b").claim()
