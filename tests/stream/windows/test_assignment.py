"""One assignment after the other: what is over, what waits for it, and what is held then."""

import asyncio
from types import SimpleNamespace

from models.windows.window import WindowSettings
from stream.windows.assignment import Assignment, Assignments
from stream.windows.partition import DirtyUser, Partition


def partition(number: int = 0) -> Partition:
    return Partition("t", number, WindowSettings(), lambda keys: [None for _ in keys])


def assignments() -> Assignments:
    return Assignments("t", WindowSettings(), SimpleNamespace(load=lambda number, keys: [None for _ in keys]))  # type: ignore[arg-type]


def test_nothing_is_held_before_the_first_assignment_and_after_the_drain() -> None:
    here = assignments()
    assert here.current.is_over
    asyncio.run(here.begin([0, 2], here.current))
    held = here.current
    assert not held.is_over
    assert list(held.partitions) == [0, 2]
    here.drop()
    assert held.is_over
    assert (here.current.is_over, here.current.partitions) == (True, {})


def test_assignments_are_told_apart_by_their_number() -> None:
    here = assignments()
    numbers = [here.current.number]
    for _ in range(2):
        asyncio.run(here.begin([0], here.current))
        numbers.append(here.current.number)
        here.drop()
    assert numbers == [0, 1, 2]


def test_reading_again_from_the_committed_offsets_is_another_assignment_that_knows_nothing() -> None:
    here = assignments()
    asyncio.run(here.begin([0], here.current))
    first = here.current
    first.partitions[0].position = 7
    first.partitions[0].dirty["u"] = DirtyUser(3, 1, [])
    asyncio.run(here.begin([0], here.current))
    assert first.is_over
    assert not here.current.is_over
    assert (here.current.positions(), here.current.waiting()) == ({0: -1}, 0)


def test_next_assignment_begins_when_what_holds_the_lock_is_done() -> None:
    async def run() -> list[str]:
        here, told = assignments(), list[str]()
        await here.begin([0], here.current)
        first = here.current
        async with first.lock:  # as a checkpoint does, which stores what the next assignment will load
            begun = asyncio.create_task(here.begin([0], here.current))
            await asyncio.sleep(0.01)
            told.append("stored" if here.current is first else "too early")
        await begun
        told.append("begun" if here.current is not first else "never")
        return told

    assert asyncio.run(run()) == ["stored", "begun"]


def test_nothing_begins_where_a_drain_came_between_going_to_the_committed_offsets_and_arriving() -> None:
    here = assignments()
    asyncio.run(here.begin([0], here.current))
    first = here.current
    here.drop()
    asyncio.run(here.begin([0], after=first))
    assert (here.current.is_over, here.current.partitions) == (True, {})


def test_nothing_begins_where_the_drain_ends_while_it_is_waited_for() -> None:
    async def run() -> Assignment:
        here = assignments()
        await here.begin([0], here.current)
        first = here.current
        async with first.lock:  # as the drain does, for its last checkpoint
            begun = asyncio.create_task(here.begin([0], after=first))
            await asyncio.sleep(0)
            first.end()
            here.drop()
        await begun
        return here.current

    assert asyncio.run(run()).partitions == {}


def test_whoever_waits_for_progress_is_let_go_when_the_assignment_is_over() -> None:
    async def run() -> None:
        held = Assignment(1, {0: partition()})
        waiting = asyncio.create_task(held.progress())
        await asyncio.sleep(0)
        held.end()
        await asyncio.wait_for(waiting, 60)
        await asyncio.wait_for(held.progress(), 60)  # and nobody waits after that

    asyncio.run(run())


def test_offset_may_be_committed_once_windows_are_durable_and_vectors_written() -> None:
    held = partition(3)
    both = Assignment(1, {3: held, 4: partition(4)})
    assert (both.committable(3), both.committable(4), both.committable(9)) == (None, None, None)
    held.position = held.durable_position = 10
    held.dirty["u"] = DirtyUser(6, 1, [])
    assert (both.committable(3), both.waiting(), both.dirty()) == (6, 1, 1)
    held.take(1)
    assert (both.committable(3), both.waiting(), both.dirty()) == (6, 1, 0)
    del held.in_flight["u"]
    assert both.committable(3) == 10
    held.durable_position = 8
    assert both.committable(3) == 8


def test_batches_are_numbered_within_an_assignment_and_a_missing_one_is_noticed() -> None:
    held = partition()
    numbers = [held.number_batch() for _ in range(4)]
    assert numbers == [0, 1, 2, 3]
    assert [held.is_next(number) for number in (0, 1, 3, 3, 2)] == [True, True, False, False, True]
