"""Values of records side by side in one buffer: the form in which compiled loops read them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np

from models.arrays import Bytes, Flags, Ints


@dataclass(frozen=True, slots=True)
class Payloads(Sequence[bytes | None]):
    """V values, keys or payloads: text (bytes,) uint8 has one behind the other.

    starts (V + 1,): value i is text[starts[i]:starts[i + 1]]; is_null (V,) where there is none: it has no
    bytes. As a sequence it makes an object of each value that is asked for.
    """

    text: Bytes
    starts: Ints
    is_null: Flags

    def __len__(self) -> int:
        return len(self.is_null)

    @overload
    def __getitem__(self, place: int) -> bytes | None: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes | None]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes | None] | None:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if self.is_null[place]:
            return None
        place %= len(self)
        return self.text[self.starts[place] : self.starts[place + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes | None]:
        content = self.text.tobytes()
        values: list[bytes | None] = [content[begin:end] for begin, end in pairwise(self.starts.tolist())]
        for place in np.flatnonzero(self.is_null).tolist():
            values[place] = None
        return iter(values)

    def __contains__(self, value: object) -> bool:
        return bool(self.is_null.any()) if value is None else any(each == value for each in self)

    def lengths(self) -> Ints:
        """Return the length of each value in bytes (V,), 0 where there is none."""
        return np.diff(self.starts)

    def begin_with(self, prefix: bytes) -> Flags:
        """Return which values begin so (V,)."""
        found = np.flatnonzero(self.lengths() >= len(prefix))
        for place, byte in enumerate(prefix):
            found = found[self.text[self.starts[found] + place] == byte]
        flags = np.zeros(len(self), np.bool_)
        flags[found] = True
        return flags

    def at(self, places: Ints) -> "Payloads":
        """Return the values at some places (P,), copied by stretches of such as stand side by side."""
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        stretches = [each for each in np.split(places, cuts) if len(each)]
        parts = [self.text[self.starts[each[0]] : self.starts[each[-1] + 1]] for each in stretches]
        text = np.concatenate(parts) if parts else self.text[:0].copy()
        text.setflags(write=False)  # as all texts: the loops are compiled for that
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths()[places])])
        return Payloads(text, starts, self.is_null[places])

    def tails(self, begin: int) -> list[bytes]:
        """Return what stands in each value from a place on, which each has."""
        content, starts = self.text.tobytes(), self.starts
        ends = zip((starts[:-1] + begin).tolist(), starts[1:].tolist(), strict=True)
        return [content[start:end] for start, end in ends]

    def common(self, begin: int, end: int) -> bytes | None:
        """Return what stands between two places of each value, None where that is not the same in all."""
        if not len(self) or self.lengths().min() < end:
            return None
        found = self.text[self.starts[:-1, None] + np.arange(begin, end)]
        return found[0].tobytes() if (found == found[0]).all() else None


def payloads_of(values: Sequence[bytes | None]) -> Payloads:
    """Return values as one buffer; those that are in one already as they are."""
    if isinstance(values, Payloads):
        return values
    starts = np.zeros(len(values) + 1, np.int64)
    is_null = np.zeros(len(values), np.bool_)
    if None in values:
        is_null = np.array([value is None for value in values], np.bool_)
    given = [value or b"" for value in values]
    np.cumsum(np.fromiter(map(len, given), np.int64, len(given)), out=starts[1:])
    return Payloads(np.frombuffer(b"".join(given), np.uint8), starts, is_null)


def joined_payloads(parts: Sequence[Payloads]) -> Payloads:
    """Return the values of all parts, one behind the other."""
    text = np.concatenate([part.text for part in parts]) if parts else np.zeros(0, np.uint8)
    text.setflags(write=False)  # as all texts: the loops are compiled for that
    starts = np.zeros(sum(map(len, parts)) + 1, np.int64)
    np.cumsum(np.concatenate([starts[:0], *(part.lengths() for part in parts)]), out=starts[1:])
    return Payloads(text, starts, np.concatenate([np.zeros(0, np.bool_), *(part.is_null for part in parts)]))
