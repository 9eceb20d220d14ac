"""Reading the dead-letter topic, up to where it ends as reading begins."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from models.errors import TwintideError
from stream.dead_letters.letter import DeadLetter, own_headers, read_letter
from stream.dead_letters.markers import Redriven, read_marker
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import begin_offsets, end_offsets, partition_counts
from stream.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant; what is None, or empty, leaves nothing out."""

    reasons: frozenset[str] = frozenset()
    #: When it became a dead letter (epoch ms): from the first on, and before the second.
    since_ms: int | None = None
    until_ms: int | None = None
    #: Where the record came from: partition, and first and last offset.
    partition: int | None = None
    offsets: tuple[int, int] | None = None

    def has(self, letter: DeadLetter) -> bool:
        """Return whether this letter is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
            and (self.partition is None or letter.partition == self.partition)
            and (self.offsets is None or self.offsets[0] <= letter.offset <= self.offsets[1])
        )


class DeadLetterTopic:
    """The dead letters of the behaviour topic, as of one moment."""

    def __init__(self, settings: Settings) -> None:
        """Raises TwintideError where there is no such topic."""
        self._settings = settings
        name, kafka = settings.dead_letter_topic, settings.kafka
        if name not in partition_counts(kafka):
            raise TwintideError(
                f"there is no topic {name} at {kafka.bootstrap_servers}: a worker makes it as it starts; set "
                "TWINTIDE_DEAD_LETTER_TOPIC to its own"
            )
        self._first, self._ends = begin_offsets(kafka, name), end_offsets(kafka, name)
        #: Records that are neither a letter of this topic nor a marker, as of the last reading.
        self.foreign = 0

    @property
    def partitions(self) -> list[int]:
        """Return the partitions that have records."""
        return [partition for partition, end in self._ends.items() if end > self._first[partition]]

    def redriven(self) -> Redriven:
        """Return which letters were driven again."""
        found = Redriven()
        name, kafka = self._settings.dead_letter_topic, self._settings.kafka
        for message in read_between(kafka, name, self._first, self._ends):
            if marker := read_marker(message):
                found.read(int(message.partition() or 0), marker)
        return found

    def letters(self, choice: Choice) -> Iterator[DeadLetter]:
        """Yield the letters that are meant, partition by partition, oldest first."""
        self.foreign = 0
        name, kafka = self._settings.dead_letter_topic, self._settings.kafka
        for partition in self.partitions:
            first = {partition: self._first[partition]}
            for message in read_between(kafka, name, first, self._ends):
                letter = read_letter(message)
                if letter is None or letter.topic != self._settings.topic:
                    self.foreign += read_marker(message) is None
                elif choice.has(letter):
                    yield letter


def whole_letter(settings: Settings, letter: DeadLetter) -> DeadLetter | None:
    """Return a letter that was cut short with all of its record, as the event topic has it; None: it is gone.

    A topic that was made again may have another record at that place.
    """
    place, offset = letter.partition, letter.offset
    ends = end_offsets(settings.kafka, settings.topic)
    if not begin_offsets(settings.kafka, settings.topic).get(place, offset + 1) <= offset < ends[place]:
        return None
    for record in read_between(settings.kafka, settings.topic, {place: offset}, {place: offset + 1}):
        key, value = record.key() or b"", record.value() or b""
        if key.startswith(letter.key or b"") and value.startswith(letter.value or b""):
            return replace(
                letter,
                key=record.key(),
                value=record.value(),
                timestamp_ms=max(record.timestamp()[1], 0),
                headers=own_headers(record),
                is_cut=False,
            )
    return None
