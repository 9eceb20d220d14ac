"""Which dead letters were driven again: said by marker records on the dead-letter topic itself.

A marker stands behind the letters that it names, in their partition, so whatever retention takes, it takes
the letters first. One is written before a portion is sent, and one when Kafka has acknowledged it: between
the two the portion is in doubt, and the behaviour topic alone can tell (redrive.py).
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import msgspec
from confluent_kafka import Message

#: Header of a marker; its record is no dead letter.
MARKER_HEADER = "twintide-redrive"


class Marker(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a marker, as JSON."""

    step: Literal["begun", "sent", "refused"]
    #: Offsets of the letters, in the marker's partition.
    letters: list[int]
    #: With `begun`: where the behaviour topic ended, by partition, before the first of them was sent.
    ends: dict[int, int] = {}

    @property
    def key(self) -> bytes:
        """Return the record's key: its own, so that a compacted topic keeps it."""
        return f"{MARKER_HEADER}/{self.step}/{self.letters[0]}".encode()


def read_marker(message: Message) -> Marker | None:
    """Return the marker that a record of the dead-letter topic is, None where it is none."""
    if not any(name == MARKER_HEADER for name, _ in message.headers() or ()):
        return None
    try:
        return msgspec.json.decode(message.value() or b"", type=Marker)
    except msgspec.DecodeError:  # somebody else's
        return None


class Redriven:
    """What the markers of a dead-letter topic say, by partition."""

    def __init__(self) -> None:
        #: Offsets of the letters that were sent.
        self._sent: dict[int, set[int]] = defaultdict(set)
        #: Of those in doubt: where the behaviour topic ended before they were sent, if they were.
        self._begun: dict[int, dict[int, dict[int, int]]] = defaultdict(dict)

    def read(self, partition: int, marker: Marker) -> None:
        """Take the next marker of a partition."""
        if marker.step == "begun":
            self._begun[partition] |= dict.fromkeys(marker.letters, marker.ends)
            return
        if marker.step == "sent":
            self._sent[partition].update(marker.letters)
        for offset in marker.letters:
            self._begun[partition].pop(offset, None)

    def is_sent(self, place: tuple[int, int]) -> bool:
        """Return whether the letter at this place (partition, offset) was sent."""
        return place[1] in self._sent[place[0]]

    def is_in_doubt(self, place: tuple[int, int]) -> bool:
        """Return whether the letter may have been sent, by a redrive that did not end."""
        return place[1] in self._begun[place[0]]

    def first_possible(self, places: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Return from where on, by partition of the behaviour topic, letters in doubt may stand."""
        first: dict[int, int] = {}
        for partition, letter in places:
            for number, end in self._begun[partition][letter].items():
                first[number] = min(end, first.get(number, end))
        return first
