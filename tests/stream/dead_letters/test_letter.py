"""The form of a dead letter: what it keeps of the record, and what it says of it."""

from types import SimpleNamespace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stream.dead_letters.letter import (
    Headers,
    Origin,
    own_headers,
    read_letter,
    redriven_from,
    said_of,
)
from stream.events.incoming import REDRIVEN_HEADER, Rejected, sent_at_ms


def record(
    headers: Headers | None, offset: int = 8, timestamp: tuple[int, int] = (1, 1_417)
) -> SimpleNamespace:
    return SimpleNamespace(
        key=lambda: b"u",
        value=lambda: b"no json",
        offset=lambda: offset,
        partition=lambda: 3,
        timestamp=lambda: timestamp,
        headers=lambda: headers,
    )


def letter_of(of: SimpleNamespace) -> SimpleNamespace:
    """Return the record that a record becomes on the dead-letter topic."""
    headers = own_headers(of) + said_of(Rejected(of, "unreadable"), "events", 2, {})
    return record(headers, offset=40, timestamp=(1, 99))


NAMES = st.sampled_from(["reason", "topic", "partition", "offset", "timestamp", "tries", "sent_at", "", "ü"])


@given(st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=9))))
def test_own_headers_come_back_whatever_they_are_called(headers: Headers) -> None:
    letter = read_letter(letter_of(record(headers)))
    assert letter is not None
    assert list(letter.headers) == headers
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == ("unreadable", "events", 2, 8)
    assert (letter.place, letter.at_ms, letter.timestamp_ms, letter.tries) == ((3, 40), 99, 1_417, 0)


def test_record_that_fails_again_counts_its_tries_and_keeps_its_own_headers_alone() -> None:
    origin = msgspec.json.encode(Origin("dlq", 3, 40, tries=2))
    redriven = record([("trace", b"1"), (REDRIVEN_HEADER, origin)])
    letter = read_letter(letter_of(redriven))
    assert letter is not None
    assert (letter.tries, list(letter.headers)) == (2, [("trace", b"1")])


def test_letter_of_before_timestamps_were_kept_is_read() -> None:
    old = [("reason", b"key"), ("topic", b"events"), ("partition", b"1"), ("offset", b"7")]
    letter = read_letter(record(old))
    assert letter is not None
    assert (letter.reason, letter.partition, letter.offset) == ("key", 1, 7)
    assert (letter.timestamp_ms, letter.tries, list(letter.headers)) == (0, 0, [])


def test_what_is_no_dead_letter_and_what_was_not_redriven_is_none() -> None:
    strange: list[Headers | None] = [None, [("reason", b"key")], [("reason", None), ("topic", b"t")]]
    for headers in (*strange, [("partition", b"x")]):
        assert read_letter(record(headers)) is None
    for headers in (*strange, [(REDRIVEN_HEADER, b"no json")], [(REDRIVEN_HEADER, None)]):
        assert redriven_from(record(headers)) is None


def test_send_time_of_a_redriven_record_says_nothing_of_freshness() -> None:
    assert sent_at_ms([("sent_at", b"5")]) == 5
    assert sent_at_ms([("sent_at", b"9" * 5_000)]) == sent_at_ms([("sent_at", b"soon")]) == 0
    assert sent_at_ms([("sent_at", b"5"), (REDRIVEN_HEADER, b"{}")]) == 0
