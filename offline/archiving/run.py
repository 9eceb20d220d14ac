"""The behaviour topic -> its archive, portion by portion, up to the topic's end."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
from confluent_kafka import Message
from tqdm import tqdm

from models.errors import TwintideError
from offline.archiving.directory import Archive, Progress
from offline.archiving.rows import SCHEMA, rows_of_records
from stream.events.decoder import Decoder, decoder_of
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import begin_offsets, end_offsets, partition_counts, topic_id
from stream.settings import Settings

logger = logging.getLogger("archive")

#: Records that are Python objects at once.
BATCH_RECORDS = 5_000

#: By partition, an offset.
Offsets = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a topic: each partition from one offset to before another; `lost` events before are gone."""

    topic_id: str
    first: Offsets
    ends: Offsets
    lost: int = 0

    def __len__(self) -> int:
        return sum(self.lengths().values())

    def lengths(self) -> Offsets:
        """Return how many offsets of each partition there are to read."""
        return {partition: end - self.first[partition] for partition, end in self.ends.items()}

    def portion(self, events: int) -> "Stretch":
        """Return its beginning, of so many offsets at most; partitions with less leave their share."""
        ends, left = dict(self.ends), events
        by_length = sorted(self.lengths().items(), key=lambda each: each[1])
        for number, (partition, length) in enumerate(by_length):
            share = min(length, left // (len(by_length) - number))
            ends[partition], left = self.first[partition] + share, left - share
        return Stretch(self.topic_id, self.first, ends, self.lost)

    def after(self, portion: "Stretch") -> "Stretch":
        """Return what is left behind its beginning."""
        return Stretch(self.topic_id, portion.ends, self.ends)


def archive_topic(
    settings: Settings, archive: Archive, portion_events: int, is_stopping: Callable[[], bool]
) -> None:
    """Bring an archive up to the end that the topic has now, or until `is_stopping`, asked before a portion.

    A new topic is noted before it has an event, so that what retention takes from then on is known as lost.
    Joins no group. Raises TwintideError where there is no topic, or another of its name after a portion.
    """
    decoder = decoder_of(settings)
    left = _what_is_new(settings, archive.progress)
    with tqdm(total=len(left), unit="event", unit_scale=True, desc="archive", disable=None) as bar:
        while (len(left) or left.lost or left.topic_id != archive.progress.topic_id) and not is_stopping():
            portion = left.portion(portion_events)
            archive.add(*_read(settings, portion, archive.progress, decoder))
            bar.update(len(portion))
            left = left.after(portion)


def _what_is_new(settings: Settings, progress: Progress) -> Stretch:
    """Return what of the topic is not in the archive."""
    kafka, topic = settings.kafka, settings.topic
    if topic not in partition_counts(kafka):
        raise TwintideError(f"there is no topic {topic} at {kafka.bootstrap_servers}: set TWINTIDE_TOPIC")
    found, begin, ends = topic_id(kafka, topic), begin_offsets(kafka, topic), end_offsets(kafka, topic)
    known = progress.offsets
    if progress.topic_id not in ("", found):
        logger.warning(
            "topic %s was deleted and made again (id %s, was %s): it is archived from its beginning; what "
            "the one before had behind offsets %s is gone",
            *(topic, found, progress.topic_id, describe_offsets(known)),
        )
        known = {}
    first, lost = {}, 0
    for partition, oldest in begin.items():
        at = known.get(partition, oldest)
        if at > ends[partition]:
            logger.warning(
                "partition %d of topic %s ends at %d, before %d, up to which it is archived: brokers have "
                "lost events; the archive resumes at that end",
                *(partition, topic, ends[partition], at),
            )
        first[partition] = min(max(at, oldest), ends[partition])
        lost += max(oldest - at, 0)
    if lost:
        logger.warning("retention took %d events of topic %s before they were archived", lost, topic)
    return Stretch(found, first, ends, lost)


def _read(settings: Settings, portion: Stretch, before: Progress, decoder: Decoder) -> tuple[Any, Progress]:
    """Return a portion's rows, and the progress once they are in the archive."""
    batches, rejected, forgets, gaps = [], Counter(before.rejected), before.forgets, Gaps(portion)
    records = read_between(settings.kafka, settings.topic, portion.first, portion.ends)
    while batch := list(islice(records, BATCH_RECORDS)):
        gaps.read(batch)
        found = rows_of_records(batch, decoder)
        batches.append(found.rows)
        rejected.update(found.rejected)
        forgets += found.forgets
    lost = _lost_meanwhile(settings, gaps)
    _refuse_another_topic(settings, portion)
    rows = pa.Table.from_batches(batches, SCHEMA)
    return rows, Progress(
        topic=settings.topic,
        topic_id=portion.topic_id,
        offsets=portion.ends,
        rows=before.rows + len(rows),
        rejected=dict(rejected),
        forgets=forgets,
        lost=before.lost + portion.lost + lost,
    )


class Gaps:
    """The offsets of a portion at which no record came: of transactions, or what retention took meanwhile."""

    def __init__(self, portion: Stretch) -> None:
        self._next, self._ends = dict(portion.first), portion.ends
        #: Partition, first offset of a gap, offset behind it.
        self._found: list[tuple[int, int, int]] = []

    def read(self, records: Sequence[Message]) -> None:
        """Take note of the next records."""
        for record in records:
            self._close(record.partition(), record.offset())
            self._next[record.partition()] = record.offset() + 1

    def all(self) -> list[tuple[int, int, int]]:
        """Return all gaps, once everything is read."""
        for partition, end in self._ends.items():
            self._close(partition, end)
        return self._found

    def _close(self, partition: int, offset: int) -> None:
        if offset > self._next[partition]:
            self._found.append((partition, self._next[partition], offset))


def _lost_meanwhile(settings: Settings, gaps: Gaps) -> int:
    """Return how many events retention took before they were read."""
    found = gaps.all()
    if not found:
        return 0
    begin = begin_offsets(settings.kafka, settings.topic)
    lost = sum(max(min(end, begin[partition]) - first, 0) for partition, first, end in found)
    if lost:
        logger.warning("retention took %d events of topic %s while they were read", lost, settings.topic)
    return lost


def _refuse_another_topic(settings: Settings, portion: Stretch) -> None:
    """Raise TwintideError where the topic is not the one whose offsets were asked for."""
    if topic_id(settings.kafka, settings.topic) != portion.topic_id:
        raise TwintideError(
            f"topic {settings.topic} was deleted and made again while it was read: what came since offsets "
            f"{describe_offsets(portion.first)} is not archived; start again, it begins anew"
        )


def describe_offsets(offsets: Offsets) -> str:
    """Return offsets as people read them."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(offsets.items())) or "none"
