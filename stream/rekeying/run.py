"""A topic -> its events on another, keyed by user id, from where the last call ended.

Offsets are committed once all that comes before them has arrived, so a kill loses nothing, and what it makes
happen again has the ids that it had: workers know duplicates by them. There is no transaction around it: its
events would be seen only once it is committed, which is later than a vector may be.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from tqdm import tqdm

from models.errors import SettingsError, TwintideError, UnreachableError
from stream.events.decoder import decoder_of_parts, each_path_of
from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.fetcher import fetcher_of
from stream.kafka.group import committed_by
from stream.kafka.records import Records
from stream.kafka.topics import (
    begin_offsets,
    end_offsets,
    ensure_topic,
    partition_counts,
    topic_id,
    topic_state,
)
from stream.rekeying.rekeyed import rekeyed
from stream.rekeying.sender import Sender
from stream.settings import Settings

logger = logging.getLogger("rekey")

#: Records, and bytes of their values, about, fetched at once; how long a fetch waits for the first (s).
FETCH_RECORDS, FETCH_BYTES, FETCH_S = 10_000, 4 << 20, 0.2
#: After fewer records, what comes within so long (s) is fetched together: each fetch has a price.
FEW, GATHER_S = 1_000, 0.01
#: Seconds between two commits: what a kill makes it do again.
COMMIT_S = 1.0
#: Pause before another try (s).
PAUSE_S = 1.0
#: How often a follower asks what its topic is, as it may get partitions, or be made again (s).
POLL_TOPIC_EVERY_S = 15.0


@dataclass(slots=True)
class Done:
    """What was done."""

    events: int = 0
    skipped: int = 0
    dead_letters: int = 0
    #: Records that retention took before they were read.
    lost: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"rekeyed: events={self.events} skipped={self.skipped} dead_letters={self.dead_letters} "
            f"lost={self.lost} seconds={self.seconds:.1f} "
            f"events_per_second={self.events / max(self.seconds, 1e-9):.0f}"
        )


def rekey(
    settings: Settings, source: str, partitions: int | None, *, follow: bool, is_stopping: Callable[[], bool]
) -> Done:
    """Send the events of `source` that are not there yet to the behaviour topic, up to the end it has now.

    partitions: of the behaviour topic where it must be made; None: as many as the source has. follow: go on
    until `is_stopping`, also where Kafka is down for a while. Raises TwintideError where there is no such
    topic, and UnreachableError where Kafka does not take what is sent.
    """
    if source == settings.topic:
        raise SettingsError(f"--topic and --to are both {source}: a topic cannot be rekeyed into itself")
    counts = partition_counts(settings.kafka)
    if source not in counts:
        raise TwintideError(f"there is no topic {source} at {settings.kafka.bootstrap_servers}: see --topic")
    for topic in (settings.topic, settings.dead_letter_topic):
        ensure_topic(
            settings.kafka, topic, partitions or counts[source], replicas=settings.replication_factor
        )
    done, started = Done(), time.monotonic()
    while not is_stopping():
        try:
            if Rekeying(settings, source, done).run(follow, is_stopping):
                break
        except UnreachableError as error:
            if not follow:
                raise
            logger.warning("%s; it is tried again", error)
            time.sleep(PAUSE_S)
    done.seconds = time.monotonic() - started
    return done


class Rekeying:
    """One try: from the committed offsets on."""

    def __init__(self, settings: Settings, source: str, done: Done) -> None:
        self._settings, self._source, self._done = settings, source, done
        self._decoder = decoder_of_parts(settings)
        self._each_path = each_path_of(self._decoder)
        # Another one once the topic is deleted and made again, and so are its events' ids and its progress.
        self._topic_id = topic_id(settings.kafka, source)
        self._group = f"{settings.app_id}-rekey-{source}-{settings.topic}-{self._topic_id}"
        self._ends = end_offsets(settings.kafka, source)
        self._sender = Sender(settings.kafka, settings.topic, settings.dead_letter_topic)
        self._consumer = assigned_consumer(settings.kafka, tells_end=True, group=self._group)
        self._fetcher = fetcher_of(self._consumer, source)
        self._positions: dict[int, int] = {}

    def run(self, follow: bool, is_stopping: Callable[[], bool]) -> bool:
        """Rekey until the end, or until `is_stopping`; return False where the source has changed."""
        try:
            self._positions = self._first_offsets()
            left = sum(
                self._ends.get(partition, offset) - offset for partition, offset in self._positions.items()
            )
            due_at, ask_at = time.monotonic() + COMMIT_S, time.monotonic() + POLL_TOPIC_EVERY_S
            is_same = True
            self._consumer.assign([TopicPartition(self._source, *place) for place in self._positions.items()])
            with tqdm(total=left, unit="event", unit_scale=True, desc="rekey", disable=None) as bar:
                while is_same and (follow or not self._is_at_end()) and not is_stopping():
                    count = self._send(self._fetcher.fetch(FETCH_RECORDS, FETCH_S, FETCH_BYTES))
                    bar.update(count)
                    if count < FEW:
                        time.sleep(GATHER_S)
                    if time.monotonic() > due_at:
                        self._commit()
                        due_at = time.monotonic() + COMMIT_S
                    if follow and time.monotonic() > ask_at:
                        is_same = self._is_as_it_was()
                        ask_at = time.monotonic() + POLL_TOPIC_EVERY_S
            self._commit()
            return is_same
        finally:
            self._fetcher.close()
            self._sender.close()
            self._consumer.close()

    def _first_offsets(self) -> dict[int, int]:
        """Return from where each partition is to be read."""
        begin = begin_offsets(self._settings.kafka, self._source)
        places = [TopicPartition(self._source, partition) for partition in begin]
        committed = committed_by(self._consumer, self._group, places)
        lost = sum(max(oldest - committed.get(partition, oldest), 0) for partition, oldest in begin.items())
        if lost:
            logger.warning(
                "retention took %d records of topic %s before they were rekeyed", lost, self._source
            )
            self._done.lost += lost
        return {partition: max(committed.get(partition, 0), oldest) for partition, oldest in begin.items()}

    def _is_as_it_was(self) -> bool:
        """Return whether the source is what is read, and all of it is; True where nobody says."""
        try:
            found = topic_state(self._settings.kafka, self._source)
        except UnreachableError:
            return True
        is_same = (found.topic_id, found.partitions) == (self._topic_id, len(self._positions))
        if not is_same:
            logger.info("topic %s has other partitions, or was made again: reading begins anew", self._source)
        return is_same

    def _is_at_end(self) -> bool:
        return all(self._positions[partition] >= end for partition, end in self._ends.items())

    def _commit(self) -> None:
        """Let the next call continue behind what was sent, once it has arrived."""
        self._sender.arrived()
        places = [TopicPartition(self._source, *place) for place in self._positions.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            raise UnreachableError(f"Kafka did not take offsets: {error.args[0].str()}") from error

    def _send(self, fetched: Mapping[int, Records]) -> int:
        """Send what records become, by partition, and return how many records there were."""
        for partition, records in fetched.items():
            if len(records):
                found = rekeyed(records, self._decoder, f"{self._topic_id}/{partition}", self._each_path)
                self._sender.send(found.events, records)
                for each in found.rejected:
                    self._sender.reject(self._source, partition, each)
                self._done.events += len(found.events)
                self._done.skipped += found.skipped
                self._done.dead_letters += len(found.rejected)
            # That of an end, too, behind gaps that transactions leave.
            self._positions[partition] = max(self._positions[partition], records.position)
        return sum(map(len, fetched.values()))
