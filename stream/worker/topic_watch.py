"""Noticing that the behaviour topic is not as it was: more partitions, made again, or forbidden."""

import asyncio
import logging
from collections.abc import Callable

from models.errors import TwintideError, UnreachableError
from stream import metrics
from stream.kafka.connection import KafkaConnection
from stream.kafka.group import check_may_join
from stream.kafka.topics import NotAllowedError, TopicState, topic_state
from stream.worker.source import Topic

logger = logging.getLogger(__name__)

#: Seconds between two polls of the topic.
POLL_TOPIC_EVERY_S = 15.0


class TopicMadeAgainError(TwintideError):
    """The topic is another one by now, under the same name: nothing of the old one may be committed to it."""


class TopicWatch:
    """Polls the topic, and our rights; `complaint` and `not_allowed` may be read from any thread."""

    def __init__(
        self,
        kafka: KafkaConnection,
        topic: Topic,
        group: str,
        ask: Callable[[KafkaConnection, str], TopicState] = topic_state,
        check: Callable[[KafkaConnection, str], None] = check_may_join,
    ) -> None:
        """`topic` is what this worker reads, `group` the one it reads it with."""
        self._kafka = kafka
        self._topic = topic
        self._group = group
        self._ask = ask
        self._check = check
        self._complaint = ""
        #: What Kafka does not allow this worker any more; empty while it may all.
        self.not_allowed = ""

    @property
    def complaint(self) -> str:
        """Return what of the topic this worker cannot read; empty where it reads all of it."""
        return self._complaint

    async def run(self) -> None:
        """Poll for ever. Raises TopicMadeAgainError, and TakenError where others took our group."""
        while True:
            await self.poll()
            await asyncio.sleep(POLL_TOPIC_EVERY_S)

    async def poll(self) -> None:
        """Ask once what the topic is, and what we may. Raises as `run` does."""
        try:
            await asyncio.to_thread(self._check, self._kafka, self._group)
            found = await asyncio.to_thread(self._ask, self._kafka, self._topic.name)
        except NotAllowedError as error:  # clients ask again for ever, without a word
            self._note_not_allowed(str(error))
        except UnreachableError as error:  # whoever reads and writes notices that too, and says so
            logger.debug("%s", error)
        else:
            self._note_not_allowed("")
            self.judge(found)

    def _note_not_allowed(self, reason: str) -> None:
        if reason and not self.not_allowed:
            logger.error("%s; this worker waits until it may again", reason)
        metrics.not_allowed.set(bool(reason))
        self.not_allowed = reason

    def judge(self, found: TopicState) -> None:
        """Compare the topic as it is now with what this worker reads."""
        name, partitions = self._topic.name, self._topic.partitions
        if found.topic_id != self._topic.topic_id:
            raise TopicMadeAgainError(
                f"topic {name} was deleted and made again: start the worker again, which reads the new one"
            )
        unread = max(found.partitions - partitions, 0)
        metrics.unread_partitions.set(unread)
        complaint = (
            f"topic {name} has {found.partitions} partitions, windows are kept for {partitions}: events of "
            "the others are not read until all workers are stopped and `python -m stream.repartition` is run"
            if unread
            else ""
        )
        if complaint and complaint != self._complaint:
            logger.error("%s", complaint)
        self._complaint = complaint
