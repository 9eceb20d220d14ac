"""What records become when they are keyed by user id."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.events import SKIPPED_EVENT, Event
from stream.events.decoder import make_decoder
from stream.events.incoming import FORGET_HEADER, read_records
from stream.rekeying.rekeyed import KeyedEvent, rekeyed

LATEST = 10**18
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=3),
    st.integers(-5, 2**40),
    st.sampled_from([None, "", 0, 1.5, [], {}, "x" * 70_000, "商"]),
)


class Record:
    """A record of a topic that is keyed by anything."""

    def __init__(
        self, value: bytes | None, offset: int, key: bytes | None = b"k", headers: Any = None
    ) -> None:
        self._parts = value, offset, key, headers

    def value(self) -> bytes | None:
        return self._parts[0]

    def offset(self) -> int:
        return self._parts[1]

    def key(self) -> bytes | None:
        return self._parts[2]

    def headers(self) -> Any:
        return self._parts[3]

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "user_id": VALUES,
                "item_id": VALUES,
                "behavior_type": st.integers(0, 5) | VALUES,
                "time": st.sampled_from([1_400_000_000_000, 0, -1, 2**60]),
                "item_category": VALUES,
                "event_id": VALUES,
                "user_geohash": VALUES,
            },
        ),
        min_size=1,
    )
)
def test_what_is_sent_is_what_a_worker_reads_as_the_source_means_it(values: list[dict[str, Any]]) -> None:
    records = [Record(json.dumps(value).encode(), offset) for offset, value in enumerate(values)]
    decoder = make_decoder("", "")
    found = rekeyed(records, decoder, "t/0")
    assert (len(found.events) + len(found.rejected), found.skipped) == (len(values), 0)
    assert "key" not in {each.reason for each in found.rejected}
    sound = [
        offset
        for offset in range(len(values))
        if offset not in {each.record.offset() for each in found.rejected}
    ]
    for (key, value, time_ms, _), offset in zip(found.events, sound, strict=True):
        before, after = decoder.events([records[offset].value(), value])
        assert before and after
        assert (key, time_ms) == (str(before.user_id).encode(), before.time)
        for name in ("user_id", "item_id", "behavior_type", "time", "category"):
            assert str(getattr(before, name)) == str(getattr(after, name))
        assert after.event_id == (f"t/0/{offset}" if before.event_id is None else str(before.event_id))
    if found.events:
        read = read_records(
            [Record(each.value, n, each.key) for n, each in enumerate(found.events)], decoder, "u/0"
        )
        assert (len(read.events), read.rejected) == (len(found.events), [])


def test_what_is_no_event_is_passed_on_or_left_out() -> None:
    headers = [("sent_at", b"5")]

    def decode(value: bytes) -> Event:
        return {b"skip": SKIPPED_EVENT, b"\xff": Event("\udcff", "i", 1, 7)}.get(value) or Event(5, "i", 1, 7)

    class Decoder:
        def columns(self, values: Any) -> None:
            return None

        def events(self, values: Any) -> list[Event | None]:
            return [None if value is None else decode(value) for value in values]

    records = [
        Record(b"skip", 0),
        Record(None, 1, b"u", [(FORGET_HEADER, b"1")]),
        Record(b"\xff", 2),
        Record(b"good", 3, headers=headers),
        Record(None, 4),
    ]
    found = rekeyed(records, Decoder(), "t/0")
    assert found.skipped == 1
    assert [(each.reason, each.record.offset()) for each in found.rejected] == [
        ("unreadable", 2),
        ("unreadable", 4),
    ]
    assert found.events[0] == KeyedEvent(b"u", None, 0, [(FORGET_HEADER, b"1")])
    assert (found.events[1].key, found.events[1].headers) == (b"5", headers)
