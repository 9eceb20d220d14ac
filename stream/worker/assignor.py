"""Who of the group gets which partitions: Faust's assignor, kept to those that windows are kept for."""

from collections.abc import Set
from typing import Any

from faust.assignor.partition_assignor import PartitionAssignor

from stream.kafka.topics import WINDOWS_TABLE


class WindowsAssignor(PartitionAssignor):  # type: ignore[misc]
    """Gives away no partition of the behaviour topic that the table of windows does not have.

    A topic may get more partitions at any time. Faust would give those away without the table's, and a user
    who is there now has their window elsewhere: they wait for `python -m stream.repartition`.
    """

    def _get_copartitioned_groups(self, topics: Any, cluster: Any, subscriptions: Any) -> Any:
        known = _Narrowed(cluster, self.app.behaviour_topic, self.app.tables[WINDOWS_TABLE].partitions)
        return super()._get_copartitioned_groups(topics, known, subscriptions)


class _Narrowed:
    """A cluster's metadata, with the first so many partitions of a topic."""

    def __init__(self, cluster: Any, topic: str, partitions: int) -> None:
        self._cluster = cluster
        self._topic = topic
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> Set[int] | None:
        """Return the partitions of a topic, None where it is not known."""
        found: Set[int] | None = self._cluster.partitions_for_topic(topic)
        return found & set(range(self._partitions)) if found and topic == self._topic else found
