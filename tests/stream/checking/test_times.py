"""Whether times are in the unit in which they are read."""

import pytest

from stream.checking.times import findings_of_times

NOW_MS = 1_700_000_000_000
UNITS = {"seconds": 1_000, "milliseconds": 1, "microseconds": 0.001, "nanoseconds": 0.000_001}


@pytest.mark.parametrize("written_ms", [NOW_MS, 0], ids=["timestamps", "no timestamps"])
@pytest.mark.parametrize("read_as", UNITS)
@pytest.mark.parametrize("unit", UNITS)
def test_another_unit_is_proposed_where_it_is_nearer(unit: str, read_as: str, written_ms: int) -> None:
    given = [round((NOW_MS + number * 1_000) / UNITS[unit]) for number in range(20)]
    read_ms = [round(each * UNITS[read_as]) for each in given]
    found = findings_of_times(read_ms, given, [written_ms] * 20)
    assert found.better_unit == ("" if unit == read_as else unit)


def test_times_that_are_none_are_judged_by_the_numbers_given() -> None:
    given = ["1700000000"] * 5
    found = findings_of_times([0] * 5, given, [NOW_MS] * 5)
    assert (found.better_unit, found.apart_ms, found.last_ms) == ("seconds", None, 0)


@pytest.mark.parametrize("given", [None, True, {}, "noon", "2026-11-28T09:30:00Z"])
def test_texts_have_no_unit(given: object) -> None:
    found = findings_of_times([NOW_MS - 10**12], [given], [NOW_MS])
    assert (found.kind, found.better_unit, found.apart_ms) == ("text", "", 10**12)


def test_old_events_that_are_sent_today_have_no_better_unit() -> None:
    found = findings_of_times([1_400_000_000_000], [1_400_000_000_000], [NOW_MS])
    assert (found.better_unit, found.apart_ms) == ("", 3 * 10**11)
