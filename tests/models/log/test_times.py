"""A time is the same however it is written, and what is not plain is refused, row by row."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.log.format import LogFormat
from models.log.times import times_of

MOMENT = datetime(2019, 10, 1, 9, 30, 15, tzinfo=UTC)
MOMENT_MS = 1_569_922_215_000


def read(values: Any, unit: Any = "auto") -> tuple[list[int], list[str]]:
    """Return the times of a column, and what is wrong with the rows that are bad."""
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values)])
    wrong: list[str] = []

    def note(rows: Any, reason: Any) -> None:
        wrong.extend(reason(row) for row in rows.tolist())

    return times_of(column, LogFormat(time_unit=unit), "log", note).tolist(), wrong


FORMS = {
    "2019-10-01 09:30:15": 0,
    "2019-10-01T09:30:15": 0,
    "2019-10-01t09:30:15z": 0,
    "2019-10-01T09:30:15Z": 0,
    "2019-10-01 09:30:15 UTC": 0,
    "2019-10-01 09:30:15 GMT": 0,
    "2019-10-01T09:30:15.25Z": 250,
    "2019-10-01 09:30:15.250": 250,
    "2019-10-01 09:30:15.250999": 250,
    "2019-10-01 09:30:15.250999999 UTC": 250,
    "2019-10-01T11:30:15+02:00": 0,
    "2019-10-01 04:00:15.5 -0530": 500,
    "2019-10-01T10:30:15+01": 0,
    "2019-10-01 09:30:15.1234567891+00:00": 123,
    " 2019-10-01 09:30:15 ": 0,
    "2019-10-01 09:30": -15_000,
    "2019-10-01 09": -30 * 60_000 - 15_000,
    "2019-10-01T09Z": -30 * 60_000 - 15_000,
}


@pytest.mark.parametrize("text", FORMS)
@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.large_string()])
def test_every_form_of_text_is_read_alone(text: str, kind: Any) -> None:
    assert read(pa.chunked_array([pa.array([text, text]).cast(kind)])) == (
        [MOMENT_MS + FORMS[text]] * 2,
        [],
    )


def test_forms_may_be_mixed_and_what_is_none_is_named() -> None:
    bad = ["2019-02-30 09:00", "yesterday", "", "2019-10-01", "2019-10-01 24:00", "2019-10-01 09:30:60", "7"]
    found, wrong = read([*FORMS, *bad, None])
    assert found == [MOMENT_MS + more for more in FORMS.values()] + [0] * 8
    assert [reason.partition(";")[0] for reason in wrong] == [
        *(f"time is {text!r}" for text in bad),
        "time is null",
    ]


@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
            st.sampled_from(["", "Z", " UTC", "+00:00", "+05:30", "-08:00"]),
            st.sampled_from([" ", "T"]),
            st.sampled_from(["hours", "minutes", "seconds", "milliseconds", "microseconds"]),
        ),
        min_size=1,
    )
)
def test_any_moment_comes_back(moments: list[tuple[datetime, str, str, str]]) -> None:
    texts, expected = [], []
    for moment, zone, separator, spec in moments:
        text = moment.isoformat(separator, spec) + zone
        sign = {"+": 1, "-": -1}.get(zone[:1], 0)
        ahead = timedelta(hours=sign * int(zone[1:3]), minutes=sign * int(zone[4:])) if sign else timedelta()
        written = datetime.fromisoformat(moment.isoformat(" ", spec)).replace(tzinfo=timezone(ahead))
        texts.append(text)
        expected.append((written - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))
    assert read(texts) == (expected, [])


UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.string(), pa.binary()])
def test_unit_of_an_epoch_time_is_found_and_may_be_said(unit: str, kind: Any) -> None:
    numbers = pa.array([MOMENT_MS * UNITS[unit] // 1000, 10**9 * UNITS[unit]])
    values = (
        numbers.cast(pa.string()).cast(kind) if kind in (pa.string(), pa.binary()) else numbers.cast(kind)
    )
    for said in ("auto", unit):
        assert read(pa.chunked_array([values]), said) == ([MOMENT_MS, 10**12], [])


def test_epoch_times_may_have_decimals() -> None:
    expected = [MOMENT_MS + 250, MOMENT_MS + 123]
    for values in (
        [MOMENT_MS / 1000 + 0.25, MOMENT_MS / 1000 + 0.123],
        [f"{MOMENT_MS // 1000}.25", f"{MOMENT_MS // 1000}.1234"],
    ):
        assert read(values) == (expected, [])


@pytest.mark.parametrize("values", [["20141118", "20141119"], ["2014111809"], ["20141118093000"], [7, 9]])
def test_numbers_that_are_not_plainly_epoch_times_are_refused_until_the_format_says(values: Any) -> None:
    found, wrong = read(values)
    assert found == [0] * len(values)
    assert all("between 1990 and 2033; else time_unit of --format" in reason for reason in wrong)
    assert read(values, "milliseconds") == ([int(value) for value in values], [])


def test_epoch_time_of_another_magnitude_than_most_is_named() -> None:
    found, wrong = read([MOMENT_MS, MOMENT_MS // 1000, MOMENT_MS + 1, None, MOMENT_MS])
    assert found == [MOMENT_MS, 0, MOMENT_MS + 1, 0, MOMENT_MS]
    assert [reason.split(";")[0] for reason in wrong] == [f"time is {MOMENT_MS // 1000}", "time is null"]


def test_numbers_beyond_every_calendar_are_bad() -> None:
    values = ["9" * 18, "-" + "9" * 18, "9" * 25, str(MOMENT_MS // 1000)]
    found, wrong = read(values, "seconds")
    assert (found, len(wrong)) == ([0, 0, 0, MOMENT_MS], 3)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_timestamps_say_themselves_what_they_are(unit: str, zone: str | None) -> None:
    moments = pa.array([MOMENT.replace(tzinfo=None), None]).cast(pa.timestamp(unit, zone))
    found, wrong = read(pa.chunked_array([moments]), "seconds")
    assert found == [MOMENT_MS, 0]
    assert [reason.split(";")[0] for reason in wrong] == ["time is null"]


@pytest.mark.parametrize("kind", [pa.date32(), pa.list_(pa.int64()), pa.time32("s")])
def test_column_that_is_no_time_is_refused(kind: Any) -> None:
    with pytest.raises(DataError, match=r"log: time is of type .*; it must be a timestamp, text or number"):
        read(pa.chunked_array([pa.nulls(2, kind)]))


def test_text_that_is_not_utf_8_is_no_time() -> None:
    found, wrong = read(pa.chunked_array([pa.array([b"2019-10-01 09:30:15", b"\xff"])]))
    assert (found, len(wrong)) == ([MOMENT_MS, 0], 1)
    assert np.array(found).dtype == np.int64
