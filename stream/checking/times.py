"""Whether times are read in the unit they are in, judged by when the records were written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from models.log.times import PLAIN_MS, UNITS

#: Times this near to the records' timestamps are read as they are meant (ms).
NEAR_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TimeFindings:
    """Of the events whose time could be read: the first and last (epoch ms), and how they are given."""

    first_ms: int
    last_ms: int
    #: "text" or "numbers", as most are.
    kind: str
    #: Median of how far they are from the records' timestamps (ms); None where there are none.
    apart_ms: float | None
    #: The unit in which the numbers would be near, where they are not as they are read; "" where none is.
    better_unit: str


def findings_of_times(
    read_ms: Sequence[int], given: Sequence[Any], written_ms: Sequence[int]
) -> TimeFindings:
    """Judge times: as they are read (E,) epoch ms, 0 where they cannot be; as given (E,); the records' (E,).

    A record's timestamp of 0 is none: then a time is near that lies in the years 1990 to 2033.
    """
    sound = [each for each in read_ms if each > 0]
    numbers = [_number(each) for each in given]
    are_numbers = 2 * sum(number is not None for number in numbers) > len(numbers)
    pairs = [(time_ms, at) for time_ms, at in zip(read_ms, written_ms, strict=True) if time_ms > 0]
    apart_ms = _apart_ms(pairs)
    is_near = len(sound) * 2 > len(read_ms) and apart_ms <= NEAR_MS
    has_timestamps = any(written_ms)
    return TimeFindings(
        first_ms=min(sound, default=0),
        last_ms=max(sound, default=0),
        kind="numbers" if are_numbers else "text",
        apart_ms=apart_ms if has_timestamps and sound else None,
        better_unit="" if is_near or not are_numbers else _better_unit(numbers, written_ms),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _better_unit(numbers: Sequence[float | None], written_ms: Sequence[int]) -> str:
    """Return the unit that brings numbers nearest to when the records were written, if that is near."""
    found = [(number, at) for number, at in zip(numbers, written_ms, strict=True) if number is not None]
    apart = {
        unit: _apart_ms((number * factor / divisor, at) for number, at in found)
        for unit, (factor, divisor) in UNITS.items()
    }
    nearest = min(apart, key=lambda unit: apart[unit])
    return nearest if apart[nearest] <= NEAR_MS else ""


def _apart_ms(pairs: Iterable[tuple[float, int]]) -> float:
    """Return the median distance of times from when their records were written (ms)."""
    return median([_distance_ms(time_ms, at) for time_ms, at in pairs] or [float("inf")])


def _distance_ms(time_ms: float, written_ms: int) -> float:
    if written_ms > 0:
        return abs(time_ms - written_ms)
    return max(PLAIN_MS[0] - time_ms, time_ms - PLAIN_MS[1], 0.0)
