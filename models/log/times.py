"""When the rows of a log happened: timestamps, texts in the forms of RFC 3339, and numbers since 1970."""

from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.errors import DataError
from models.events import LIKELY_MS
from models.log.format import LogFormat

HOUR_MS, MINUTE_MS, SECOND_MS = 3_600_000, 60_000, 1_000
DAY_MS = 24 * HOUR_MS

#: By what an epoch time of each unit is multiplied, and then divided, to be in ms.
UNITS = {
    "seconds": (1_000, 1),
    "milliseconds": (1, 1),
    "microseconds": (1, 1_000),
    "nanoseconds": (1, 1_000_000),
}
#: Epoch times up to these are taken for this unit: until the year 5138.
DIGITS = {"seconds": 10**11, "milliseconds": 10**14, "microseconds": 10**17}
#: An epoch time whose unit nobody says must be in these years: 2014111809 is rather 9 o'clock that day.
PLAIN_MS = LIKELY_MS
#: Any time must be in the years 1 to 9999.
SOUND_MS = (-62_135_596_800_000, 253_402_300_799_999)
#: Times that are looked at to see what all are.
SAMPLE = 1_000

TEXT_EXPECTED = "like 2014-11-18 09, 2014-11-18 09:30:00 or 2014-11-18T09:30:00.250+01:00"

_NUMBER = r"^\s*-?\d{1,19}(\.\d*)?\s*$"
#: Fits into 64 bits.
_WHOLE = r"^\s*-?\d{1,18}\s*$"
_TEXT = (
    r"^\s*(?P<day>\d{4}-\d{2}-\d{2})[ Tt](?P<hour>[01]\d|2[0-3])"
    r"(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:\.(?P<fraction>\d+))?)?)?"
    r"(?: ?(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}(?::?[0-5]\d)?))?\s*$"
)
#: What Arrow parses by itself where all times of a block are of one kind: of up to 3, 6 or 9 decimals.
_KINDS = [pa.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC")]
_NAMED_ZONES = (" UTC", " GMT")
_SHORTEST = len("2014-11-18 09")

#: Takes rows, in ascending order, and what is wrong with one of them.
Note = Callable[[NDArray[np.int64], Callable[[int], str]], None]


class Times(NamedTuple):
    """Times (R,) in epoch ms, which of them could not be read, and what they should have been."""

    ms: NDArray[np.int64]
    is_wrong: NDArray[np.bool_]
    expected: str


def times_of(times: Any, log_format: LogFormat, file: str, note: Note) -> NDArray[np.int64]:
    """Return the times (R,) of a column of any type, epoch ms; where one cannot be read it is 0, and noted.

    Raises DataError for a column of a type that is no time.
    """
    if pa.types.is_dictionary(times.type):
        times = times.cast(times.type.value_type)
    kind = times.type
    if pa.types.is_timestamp(kind):
        found = _since_1970(_in_ms(times), "milliseconds")._replace(expected="a time in the years 1 to 9999")
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        found = _since_1970(times, log_format.time_unit)
    elif _is_text(kind):
        found = _of_texts(_decoded(times), log_format.time_unit)
    else:
        raise DataError(
            f"{file}: {log_format.time_column} is of type {kind}; it must be a timestamp, text or number"
        )
    if not found.is_wrong.any():
        return found.ms
    reason = f"{log_format.time_column} is {{}}; it must be {found.expected}"
    note(np.flatnonzero(found.is_wrong), lambda row: reason.format(_shown(times[row])))
    return np.where(found.is_wrong, 0, found.ms)


def each_time_of(times: Any, unit: str) -> Times:
    """Return the times (R,) of an array of texts, numbers or timestamps, each read by itself.

    So what a time is depends on no other, as it must on a topic, whose events come in batches of any size.
    """
    if pa.types.is_timestamp(times.type):
        return _since_1970(_in_ms(times), "milliseconds")
    if not _is_text(times.type):
        return _each_number(times, unit)
    is_whole, is_number = (_matches(times, each) & (unit != "text") for each in (_WHOLE, _NUMBER))
    kinds: list[tuple[NDArray[np.bool_], Callable[[Any], Times]]] = [
        (is_whole, lambda some: _each_number(pc.ascii_trim_whitespace(some).cast(pa.int64()), unit)),
        (is_number & ~is_whole, lambda some: _each_number(_floats(some), unit)),
    ]
    if unit not in UNITS:
        kinds.append((~is_number, lambda some: _of_texts(pa.chunked_array([some]), "text")))
    ms, is_wrong = np.zeros(len(times), np.int64), np.ones(len(times), np.bool_)
    for is_kind, read in kinds:
        rows = np.flatnonzero(is_kind)
        if len(rows):
            ms[rows], is_wrong[rows], _ = read(
                times if len(rows) == len(times) else times.take(pa.array(rows))
            )
    return Times(np.where(is_wrong, 0, ms), is_wrong, TEXT_EXPECTED)


def _each_number(numbers: Any, unit: str) -> Times:
    if unit in UNITS:
        return _since_1970(numbers, unit)
    found = [_in_unit(numbers, each, PLAIN_MS) for each in UNITS]
    are_wrong = [is_wrong for _, is_wrong in found]
    ms = sum(np.where(is_wrong, 0, each) for each, is_wrong in found)  # one alone is plain
    return Times(np.asarray(ms), np.logical_and.reduce(are_wrong), "an epoch time between 1990 and 2033")


def _floats(texts: Any) -> Any:
    return pc.ascii_trim_whitespace(texts).cast(pa.float64())


def _matches(texts: Any, pattern: str) -> NDArray[np.bool_]:
    return _to_numpy(pc.match_substring_regex(texts, pattern).fill_null(False))


def precision_of(time_ms: NDArray[np.int64]) -> int:
    """Return the finest of hour, minute, second and millisecond that times make use of (ms)."""
    return next(unit for unit in (HOUR_MS, MINUTE_MS, SECOND_MS, 1) if not (time_ms % unit).any())


def _is_text(kind: Any) -> bool:
    types = pa.types
    are_strings = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(are_strings or types.is_binary(kind) or types.is_large_binary(kind))


def _shown(time: Any) -> str:
    """Return an Arrow value as it is told of; a year that Python has no date for as its number."""
    try:
        value = time.as_py()
    except (OverflowError, ValueError):
        value = time.value
    if isinstance(value, bytes):
        return repr(value.decode(errors="replace"))
    return "null" if value is None else repr(value) if isinstance(value, str) else str(value)


def _decoded(texts: Any) -> Any:
    """Return texts that may be bytes as strings; what is not UTF-8 becomes what is no time either."""
    try:
        return texts.cast(pa.string())
    except pa.ArrowInvalid:
        decoded = [None if each is None else each.decode(errors="replace") for each in texts.to_pylist()]
        return pa.chunked_array([pa.array(decoded, pa.string())])


def _of_texts(texts: Any, unit: str) -> Times:
    if unit == "text" or (unit == "auto" and not _are_numbers(texts)):
        found = pa.chunked_array([_block_of_texts(chunk) for chunk in texts.chunks], pa.int64())
        is_wrong = _to_numpy(pc.is_null(found))
        return Times(_to_numpy(found.fill_null(0) if found.null_count else found), is_wrong, TEXT_EXPECTED)
    try:
        return _since_1970(texts.cast(pa.int64()), unit)
    except pa.ArrowInvalid:
        is_number = pc.match_substring_regex(texts, _NUMBER)
        numbers = pc.ascii_trim_whitespace(pc.if_else(is_number, texts, None))
        return _since_1970(numbers.cast(pa.float64()), unit)


def _are_numbers(texts: Any) -> bool:
    """Return whether most of the first texts are numbers."""
    sample = texts.slice(0, SAMPLE)
    return 2 * (pc.sum(pc.match_substring_regex(sample, _NUMBER)).as_py() or 0) > len(sample)


def _since_1970(numbers: Any, unit: str) -> Times:
    """Return epoch times as ms; where the unit is not said, it is what the middle one's digits say."""
    if unit in UNITS:
        return Times(*_in_unit(numbers, unit, SOUND_MS), f"a number of {unit} since 1970")
    values = _to_numpy(numbers.drop_null().cast(pa.float64(), safe=False))
    unit = _unit_of(values[~np.isnan(values)])
    hint = "between 1990 and 2033; else time_unit of --format says what it is"
    return Times(*_in_unit(numbers, unit, PLAIN_MS), f"a number of {unit} since 1970, as most here, {hint}")


def _in_unit(
    numbers: Any, unit: str, limits_ms: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return numbers of a unit (R,) as ms, and which of them are none, or not within limits."""
    is_signed = pa.types.is_signed_integer(numbers.type)
    numbers = numbers.cast(pa.int64() if is_signed else pa.float64(), safe=False)
    values = _to_numpy(numbers.fill_null(0))
    factor, divisor = UNITS[unit]
    low, high = (limit_ms * divisor / factor for limit_ms in limits_ms)
    is_wrong = _to_numpy(pc.is_null(numbers, nan_is_null=True)) | ~((values >= low) & (values <= high))
    sound = np.where(is_wrong, 0, values)
    if is_signed:
        return sound * factor // divisor, is_wrong
    return np.rint(sound * (factor / divisor)).astype(np.int64), is_wrong


def _unit_of(values: NDArray[Any]) -> str:
    middle = abs(np.median(values[:: max(1, len(values) // SAMPLE)])) if len(values) else 0
    return next((unit for unit, end in DIGITS.items() if middle < end), "nanoseconds")


def _block_of_texts(texts: Any) -> Any:
    """Return the times of an array of texts, epoch ms, null where one is none."""
    plain = texts
    for zone in _NAMED_ZONES:
        if len(texts) and str(texts[0]).endswith(zone) and pc.all(pc.ends_with(texts, zone)).as_py():
            plain = pc.utf8_slice_codeunits(texts, 0, -len(zone))
    kind = _kind_of(plain)
    try:
        return _in_ms(plain.cast(kind)) if kind else _mixed_texts(texts)
    except pa.ArrowInvalid:
        return _mixed_texts(texts)


def _kind_of(texts: Any) -> Any:
    """Return as what Arrow can parse some of an array of texts; None where there is no such thing."""
    sample = texts.take(pa.array(np.linspace(0, len(texts) - 1, min(len(texts), 100)).astype(np.int64)))
    if (pc.min(pc.binary_length(texts)).as_py() or 0) < _SHORTEST:  # a date, or nothing
        return None
    return next((kind for kind in _KINDS if _is_castable(sample, kind)), None)


def _is_castable(texts: Any, kind: Any) -> bool:
    try:
        texts.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _in_ms(timestamps: Any) -> Any:
    """Return timestamps as epoch ms; what is finer falls away, also before 1970."""
    instants = timestamps.cast(pa.timestamp(timestamps.type.unit))
    if instants.type.unit in ("us", "ns"):
        instants = pc.floor_temporal(instants, unit="millisecond")
    return instants.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())


def _mixed_texts(texts: Any) -> Any:
    """Return what `_block_of_texts` does, also where each text is of another form."""
    parts = pc.extract_regex(texts, _TEXT)
    names = ("day", "hour", "minute", "second", "fraction", "zone")
    day, hour, minute, second, fraction, zone = (pc.struct_field(parts, name) for name in names)
    ms = _by_text(day, _day_ms) - _by_text(zone, _zone_ms)
    ms += _integers(hour) * HOUR_MS + _integers(minute) * MINUTE_MS + _integers(second) * SECOND_MS
    ms += _integers(pc.ascii_rpad(pc.utf8_slice_codeunits(fraction, 0, 3), 3, "0"))
    is_none = np.isnan(ms) | _to_numpy(pc.is_null(parts))
    return pa.array(np.where(is_none, 0, ms).astype(np.int64), mask=is_none)


def _integers(digits: Any) -> NDArray[np.int64]:
    """Return the numbers of texts of digits, 0 where there are none."""
    return _to_numpy(pc.if_else(pc.equal(digits.fill_null(""), ""), "0", digits).cast(pa.int64()))


def _by_text(texts: Any, value_of: Callable[[str], float]) -> NDArray[np.float64]:
    """Return the value of each text, made once for equal ones."""
    encoded = texts.fill_null("").dictionary_encode()
    values = np.array([value_of(text) for text in encoded.dictionary.to_pylist()], dtype=np.float64)
    found: NDArray[np.float64] = values[_to_numpy(encoded.indices)]
    return found


def _day_ms(day: str) -> float:
    try:
        return float((date.fromisoformat(day) - date(1970, 1, 1)).days * DAY_MS)
    except ValueError:
        return np.nan


def _zone_ms(zone: str) -> float:
    if zone[:1] not in ("+", "-"):
        return 0.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    ahead_ms = int(digits[:2]) * HOUR_MS + int(digits[2:]) * MINUTE_MS
    return float(ahead_ms if zone[0] == "+" else -ahead_ms)


def _to_numpy(column: Any) -> NDArray[Any]:
    """Return an Arrow array or chunked array without nulls as NumPy's."""
    return np.asarray(
        column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    )
