"""Driving dead letters again: back to the behaviour topic, each once, whatever ends it half-way.

A portion of letters is noted as begun, sent, and noted as sent. Where a redrive ended between the two, the
next one looks on the behaviour topic for which of them arrived, and sends the others alone. So a record
without an event id, which no worker could tell from its copy, is not applied twice either.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import TwintideError, UnreachableError
from stream.dead_letters.letter import DeadLetter, Origin, redriven_from
from stream.dead_letters.markers import MARKER_HEADER, Marker
from stream.dead_letters.topic import Choice, DeadLetterTopic, whole_letter
from stream.events.incoming import REDRIVEN_HEADER
from stream.kafka.group import committed_offsets
from stream.kafka.only_member import only_member
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import end_offsets, partition_counts
from stream.settings import Settings

#: Letters of one portion, and their bytes, at most.
PORTION_LETTERS = 500
PORTION_BYTES = 8 << 20

#: A record that Kafka has not acknowledged by then has failed (s).
ACKNOWLEDGED_S = 30.0

#: The largest record that is tried; whether it is too large is for the broker to say (bytes).
LARGEST_BYTES = 256 << 20

#: A place (partition, offset): of a letter on the dead-letter topic, or of a record on the behaviour topic.
Place = tuple[int, int]


@dataclass(slots=True)
class Outcome:
    """What a redrive did."""

    #: Letters sent, by reason.
    sent: Counter[str] = field(default_factory=Counter)
    #: Letters that had been sent before.
    already: int = 0
    #: Letters that Kafka did not take, and what it said of the first.
    refused: int = 0
    first_refusal: str = ""
    #: Where on the behaviour topic what was sent now stands.
    places: set[Place] = field(default_factory=set)


def redrive(settings: Settings, choice: Choice, limit: int | None, say: Callable[[str], None]) -> Outcome:
    """Send the chosen letters that were not sent yet to the behaviour topic, the first `limit` of them.

    `say` gets a line for people now and then. Raises UnreachableError where Kafka does not answer, or another
    redrive is under way.
    """
    topic = settings.topic
    if topic not in partition_counts(settings.kafka):
        raise TwintideError(f"there is no topic {topic}: set TWINTIDE_TOPIC to the one the letters came from")
    with only_member(settings.kafka, f"{settings.app_id}-redrive", settings.dead_letter_topic):
        return _Redriving(settings, say).run(choice, limit)


class _Redriving:
    """One redrive, while no other is under way."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._dead_letters = DeadLetterTopic(settings)
        self._redriven = self._dead_letters.redriven()
        self._outcome = Outcome()
        #: Of the portion that is under way: what Kafka has taken, and what it surely has not.
        self._arrived: list[DeadLetter] = []
        self._refused: list[DeadLetter] = []
        self._partitions = partition_counts(settings.kafka)[settings.topic]
        self._producer = Producer(
            {
                **settings.kafka.librdkafka(),
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "message.max.bytes": LARGEST_BYTES,
                "message.timeout.ms": round(ACKNOWLEDGED_S * 1000),
                "log_level": 2,
            }
        )

    def run(self, choice: Choice, limit: int | None) -> Outcome:
        self._settle_doubts(choice)
        for portion in _portions(self._due(choice, limit)):
            self._send(portion)
            self._say(f"sent {self._outcome.sent.total():,}")
        return self._outcome

    def _due(self, choice: Choice, limit: int | None) -> Iterator[DeadLetter]:
        """Yield the letters to send."""
        due = 0
        for letter in self._dead_letters.letters(choice):
            if self._redriven.is_sent(letter.place):
                self._outcome.already += 1
            elif limit is None or due < limit:
                due += 1
                yield letter

    def _settle_doubts(self, choice: Choice) -> None:
        """Note as sent which of the letters in doubt stand on the behaviour topic."""
        in_doubt = {
            letter.place
            for letter in self._dead_letters.letters(choice)
            if self._redriven.is_in_doubt(letter.place)
        }
        if not in_doubt:
            return
        found = self._find(in_doubt)
        for partition in {partition for partition, _ in found}:
            letters = sorted(offset for number, offset in found if number == partition)
            self._mark(partition, Marker("sent", letters))
        self._say(
            f"an earlier redrive did not end: of {len(in_doubt)} letters, {len(found)} had been sent by it"
        )

    def _find(self, in_doubt: set[Place]) -> set[Place]:
        """Return which of the letters stand on the behaviour topic."""
        settings, found = self._settings, set()
        first = self._redriven.first_possible(in_doubt)
        ends = end_offsets(settings.kafka, settings.topic)
        first = {partition: offset for partition, offset in first.items() if partition in ends}
        for message in read_between(settings.kafka, settings.topic, first, ends):
            origin = redriven_from(message)
            if origin and origin.topic == settings.dead_letter_topic:
                found.add((origin.partition, origin.offset))
                if in_doubt <= found:
                    break
        return found & in_doubt

    def _send(self, letters: list[DeadLetter]) -> None:
        """Send a portion of letters of one partition."""
        (partition,) = {letter.place[0] for letter in letters}
        offsets = [letter.place[1] for letter in letters]
        ends = end_offsets(self._settings.kafka, self._settings.topic)
        self._mark(partition, Marker("begun", offsets, ends))
        self._arrived, self._refused = [], []
        for letter in letters:
            self._produce(letter)
        self._flush()
        if self._arrived:
            self._mark(partition, Marker("sent", [letter.place[1] for letter in self._arrived]))
        if self._refused:
            self._mark(partition, Marker("refused", [letter.place[1] for letter in self._refused]))
        self._outcome.sent.update(letter.reason for letter in self._arrived)

    def _produce(self, letter: DeadLetter) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                # Not librdkafka's own errors, below 0: after a timeout it may have arrived all the same.
                self._refuse(letter, error.str(), is_certain=error.code() > 0)
                return
            self._arrived.append(letter)
            self._outcome.places.add((int(message.partition() or 0), int(message.offset() or 0)))

        origin = Origin(self._settings.dead_letter_topic, *letter.place, tries=letter.tries + 1)
        whole = whole_letter(self._settings, letter) if letter.is_cut else letter
        if whole is None:
            self._refuse(letter, "it was cut short, and the event topic does not have it any more")
            return
        try:
            self._producer.produce(
                self._settings.topic,
                whole.value,
                whole.key,
                # With a key where its user is now, also after the topic has got more partitions.
                letter.partition if whole.key is None and letter.partition < self._partitions else -1,
                on_delivery=report,
                timestamp=whole.timestamp_ms or whole.at_ms,
                headers=[*whole.headers, (REDRIVEN_HEADER, msgspec.json.encode(origin))],
            )
        except KafkaException as error:
            self._refuse(letter, error.args[0].str())

    def _refuse(self, letter: DeadLetter, error: str, is_certain: bool = True) -> None:
        if is_certain:
            self._refused.append(letter)
        outcome = self._outcome
        outcome.refused += 1
        outcome.first_refusal = outcome.first_refusal or (
            f"{self._settings.dead_letter_topic}/{letter.place[0]}/{letter.place[1]}: {error}"
        )

    def _mark(self, partition: int, marker: Marker) -> None:
        """Write a marker and wait until Kafka has it. Raises UnreachableError."""
        errors: list[str] = []
        self._producer.produce(
            self._settings.dead_letter_topic,
            msgspec.json.encode(marker),
            marker.key,
            partition,
            headers=[(MARKER_HEADER, b"1")],
            on_delivery=lambda error, _: errors.append(error.str()) if error else None,
        )
        self._flush()
        if errors:
            raise UnreachableError(
                f"topic {self._settings.dead_letter_topic} did not take a marker ({errors[0]}): redrive "
                "again, which finds out what was sent"
            )
        self._redriven.read(partition, marker)

    def _flush(self) -> None:
        while self._producer.flush(1.0):
            pass  # everything arrives or fails within ACKNOWLEDGED_S


def _portions(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Yield the letters in portions, each of one partition, and not too large."""
    portion: list[DeadLetter] = []
    size = 0
    for letter in letters:
        is_other = bool(portion) and letter.place[0] != portion[0].place[0]
        if portion and (is_other or len(portion) == PORTION_LETTERS or size >= PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(letter)
        size += len(letter.value or b"")
    if portion:
        yield portion


def came_back(settings: Settings, places: set[Place], timeout_s: float) -> int | None:
    """Return how many of the records at these places are dead letters again, None where no worker says so.

    Waits until the workers have committed all of them, at most for `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        committed = committed_offsets(settings.kafka, settings.app_id, settings.topic)
        if all(offset < committed.get(partition, 0) for partition, offset in places):
            break
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)
    letters = DeadLetterTopic(settings).letters(Choice())
    return len({(letter.partition, letter.offset) for letter in letters} & places)
