"""One order for the events of several partitions, whenever each of them is fetched."""

from collections.abc import Set
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ids.texts import texts_of
from models.windows.fold import EventColumns
from stream.items.merge import HOLD_MS, WAIT_MS, Batch, Control, Merge, Piece, Position

NOW_MS = 10_000_000


class Topic:
    """Partitions with timestamps (as producers sent them) and, here and there, a control record."""

    def __init__(self, timestamps: list[list[int]], controls: Set[tuple[int, int]] = frozenset()) -> None:
        self.timestamps, self.controls = timestamps, controls

    def pieces(self, partition: int, position: Position, end: int) -> list[Piece]:
        """Return records from a position to before an offset, each control record by itself."""
        found, start = [], position.offset
        clock_ms = position.clock_ms
        cuts = sorted(offset for of, offset in self.controls if of == partition and start <= offset < end)
        for first, last in [*self._stretches(start, end, cuts)]:
            offsets = np.arange(first, last)
            clock = np.maximum(np.maximum.accumulate(self.timestamps[partition][first:last]), clock_ms)
            clock_ms = int(clock[-1])
            after = Position(last, clock_ms)
            if (partition, first) in self.controls:
                control = Control("user", f"{partition}:{first}")
                found.append(Piece(clock, offsets, [], None, control, after))
            else:
                found.append(
                    Piece(clock, offsets, *self._events(partition, offsets), control=None, after=after)
                )
        return found

    @staticmethod
    def _stretches(start: int, end: int, cuts: list[int]) -> list[tuple[int, int]]:
        edges = sorted({start, end, *cuts, *(cut + 1 for cut in cuts)})
        return list(pairwise(edges))

    def _events(self, partition: int, offsets: "np.ndarray") -> tuple[list[str], EventColumns]:
        names = [f"{partition}:{offset}" for offset in offsets.tolist()]
        return [f"user of {name}" for name in names], EventColumns(
            user=np.arange(len(names)),
            offset=offsets,
            time_ms=np.array(self.timestamps[partition])[offsets],
            behaviour=np.ones(len(names), np.uint8),
            event_hash=offsets,
            item=texts_of([f"item of {name}ü" for name in names]),
            category=texts_of(["c" * (offset % 3) for offset in offsets.tolist()]),
        )


def said(batches: list[Batch]) -> list[str]:
    """Return what comes in order, and see that all columns of an event are of one event."""
    found: list[str] = []
    for batch in batches:
        if batch.control is not None:
            found.append(f"forget {batch.control.id}")
            continue
        events = batch.events
        assert events is not None
        text, starts = events.item.text.tobytes(), events.item.starts.tolist()
        for place in range(len(events)):
            item = text[starts[place] : starts[place + 1]].decode()
            name = item.removeprefix("item of ").removesuffix("ü")
            assert batch.user_ids[events.user[place]] == f"user of {name}"
            assert int(name.split(":")[1]) == events.offset[place] == events.event_hash[place]
            assert events.category.lengths()[place] == events.offset[place] % 3
            found.append(name)
    return found


def all_at_once(topic: Topic) -> list[str]:
    merge = Merge({partition: Position(0, 0) for partition in range(len(topic.timestamps))})
    for partition, timestamps in enumerate(topic.timestamps):
        for piece in topic.pieces(partition, Position(0, 0), len(timestamps)):
            merge.add(partition, piece, 0)
        merge.note_end(partition)
    return said([*merge.ready(NOW_MS)])


topics = st.lists(st.lists(st.integers(1, 60), max_size=12), min_size=1, max_size=4)


@given(topics, st.data())
def test_order_does_not_depend_on_what_was_fetched_when_nor_on_restarts(
    timestamps: list[list[int]], data: st.DataObject
) -> None:
    places = [(p, offset) for p, of in enumerate(timestamps) for offset in range(len(of))]
    controls = data.draw(st.sets(st.sampled_from(places), max_size=3)) if places else set()
    topic = Topic(timestamps, controls)
    expected = all_at_once(topic)
    assert len(expected) == len(places)
    positions = {partition: Position(0, 0) for partition in range(len(timestamps))}
    merge, found = Merge(positions), list[str]()
    fetched = dict.fromkeys(positions, 0)
    for _ in range(data.draw(st.integers(0, 12))):
        if data.draw(st.integers(0, 4)) == 0:  # a crash right after a snapshot
            merge = Merge(merge.positions)
            fetched = {partition: place.offset for partition, place in merge.positions.items()}
        partition = data.draw(st.sampled_from([*positions]))
        end = data.draw(st.integers(fetched[partition], len(timestamps[partition])))
        if end > fetched[partition]:
            before = Position(fetched[partition], merge.newest_ms(partition))
            for piece in topic.pieces(partition, before, end):
                merge.add(partition, piece, 0)
            fetched[partition] = end
        found += said([*merge.ready(NOW_MS)])
    for partition in positions:
        before = Position(fetched[partition], merge.newest_ms(partition))
        for piece in topic.pieces(partition, before, len(timestamps[partition])):
            merge.add(partition, piece, 0)
        merge.note_end(partition)
    found += said([*merge.ready(NOW_MS)])
    assert found == expected
    assert {each: place.offset for each, place in merge.positions.items()} == {
        partition: len(of) for partition, of in enumerate(timestamps)
    }


def test_nothing_is_given_while_a_partition_may_have_something_earlier() -> None:
    topic = Topic([[NOW_MS], [NOW_MS - 100, NOW_MS + 50]])
    merge = Merge({0: Position(0, 0), 1: Position(0, 0)})
    merge.add(0, topic.pieces(0, Position(0, 0), 1)[0], NOW_MS)
    assert said([*merge.ready(NOW_MS + 10 * HOLD_MS)]) == []  # nobody knows what partition 1 has
    merge.note_end(1)
    assert said([*merge.ready(NOW_MS)]) == []  # a record of this moment may be on its way
    merge.add(1, topic.pieces(1, Position(0, 0), 2)[0], NOW_MS)
    assert said([*merge.ready(NOW_MS)]) == ["1:0", "0:0"]
    merge.note_end(0)
    merge.note_end(1)
    assert said([*merge.ready(NOW_MS + 51 + HOLD_MS)]) == ["1:1"]


@pytest.mark.parametrize("ahead_ms", [WAIT_MS, 86_400_000])
def test_a_producer_whose_clock_is_ahead_is_waited_for_a_second_at_most(ahead_ms: int) -> None:
    topic = Topic([[NOW_MS + ahead_ms], []])
    merge = Merge({0: Position(0, 0), 1: Position(0, 0)})
    merge.add(0, topic.pieces(0, Position(0, 0), 1)[0], NOW_MS)
    merge.note_end(0)
    merge.note_end(1)
    assert said([*merge.ready(NOW_MS)]) == []
    assert said([*merge.ready(NOW_MS + WAIT_MS + 1)]) == ["0:0"]


def test_a_producer_whose_clock_is_ahead_is_waited_for_no_longer_while_others_go_on() -> None:
    count = 30
    topic = Topic([[NOW_MS + 86_400_000] * 2, [NOW_MS + 100 * each for each in range(count)]])
    merge, found = Merge({0: Position(0, 0), 1: Position(0, 0)}), list[str]()
    for each in range(count):
        now_ms = NOW_MS + 100 * each
        if each in (0, 15):
            place = Position(each // 15, merge.newest_ms(0))
            merge.add(0, topic.pieces(0, place, place.offset + 1)[0], now_ms)
        merge.add(1, topic.pieces(1, Position(each, merge.newest_ms(1)), each + 1)[0], now_ms)
        merge.note_end(0)
        merge.note_end(1)
        found += said([*merge.ready(now_ms)])
        for offset in (0, 1):  # a second after it came, whatever came meanwhile
            assert (f"0:{offset}" in found) == (100 * (each - 15 * offset) > WAIT_MS)
    others = [name for name in found if name.startswith("1:")]
    assert others == [f"1:{offset}" for offset in range(count)]
