"""Which partition is backfilled next, when one is stale, and what is reported of it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

from models.windows.window import WindowSettings
from stream.rollout.backfill import Backfill
from stream.rollout.backfill_plan import BackfillPlan
from stream.rollout.state import RolloutState
from stream.store.registry_state import ChangeProgress, LiveModel, Models
from stream.windows.assignment import Assignment, Assignments
from stream.windows.partition import Partition

OLD, NEW = LiveModel("old", 1), LiveModel("new", 2)


class World:
    """A worker that has loaded both models and holds partitions 0 and 1, while `new` is staged."""

    def __init__(self) -> None:
        self.store = SimpleNamespace(losses=0, models=Models(OLD, NEW, None, 2, 1, 0, 2, 1.0))
        self.store.registry = SimpleNamespace(
            progress=ChangeProgress, note_backfilled=lambda number: self.told.append(f"{number} is whole")
        )
        self.store.poll = lambda: None
        self.store.report_coverage = self.report_coverage
        self.loaded = frozenset({"old", "new"})
        self.told: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.categories_of: set[LiveModel] = {OLD, NEW}
        assignments = Assignments("t", WindowSettings(), SimpleNamespace())  # type: ignore[arg-type]
        numbers = (0, 1)
        assignments.current = Assignment(
            1, {number: Partition("t", number, WindowSettings(), lambda keys: []) for number in numbers}
        )
        self.state = RolloutState(self, assignments)  # type: ignore[arg-type]
        self.state.with_cold_start = {"old", "new"}
        self.state.coverage.note_loaded("old", 0)
        self.state.coverage.note_loaded("new", 1)
        self.state.coverage.note_assignment(1)
        categories = SimpleNamespace(has=lambda model: model in self.categories_of)
        self.plan = BackfillPlan(self.state, self, categories)  # type: ignore[arg-type]

    def report_coverage(self, version: str, partition: int, done: int, total: int, losses: int) -> None:
        self.told.append(f"{version} on {partition}: {done} of {total}")

    # As the backfiller: every portion is a whole partition of 10 users.
    def begin(self, assignment: Assignment, number: int, models: list[LiveModel], losses: int) -> Backfill:
        return Backfill(assignment, assignment.partitions[number], models, 10, losses, [])

    async def step(self, backfill: Backfill, is_stale: Callable[[], bool]) -> None:
        self.meanwhile()
        if not is_stale():
            backfill.done, backfill.is_complete = 10, True

    def next(self) -> tuple[int, list[LiveModel]] | None:
        found = self.plan._next()
        return (found.number, list(found.models)) if found is not None else None

    def run(self) -> list[str]:
        """Backfill until nothing is left to do; return what was told."""

        async def run() -> None:
            task = asyncio.create_task(self.plan.run())
            await asyncio.sleep(0.05)
            while self.plan._next() is not None:
                await asyncio.sleep(0.01)
            task.cancel()

        asyncio.run(asyncio.wait_for(run(), 60))
        return self.told


def test_every_partition_gets_the_staged_model_and_says_so() -> None:
    world = World()
    assert world.next() == (0, [NEW])
    assert world.run() == ["new on 0: 10 of 10", "new on 1: 10 of 10"]


def test_first_partition_waits_until_cold_start_users_have_the_staged_model_at_every_category() -> None:
    world = World()
    world.categories_of.remove(NEW)
    assert world.next() == (1, [NEW])
    world.state.with_cold_start.remove("new")
    assert world.next() is None


def test_partitions_that_redis_lost_get_every_live_model_and_are_whole_then() -> None:
    world = World()
    world.store.models = Models(OLD, None, None, 2, 1, 0, 2, 1.0)
    world.state.progress = ChangeProgress(to_backfill=frozenset({1}))
    assert world.next() == (1, [OLD])
    assert world.run() == ["1 is whole"]


def test_nothing_is_begun_before_a_poll_has_seen_the_assignment_and_all_losses() -> None:
    world = World()
    world.store.losses = 1
    assert world.next() is None
    world.store.losses = 0
    world.state.assignments.current = Assignment(2, world.state.assignments.current.partitions)
    assert world.next() is None
    world.state.coverage.note_assignment(2)
    world.state.assignments.current.end()
    assert world.next() is None


def test_backfill_is_stale_when_its_assignment_is_over_redis_lost_writes_or_its_model_is_gone() -> None:
    for change in ("over", "lost", "gone"):
        world = World()
        backfill = world.plan._next()
        assert backfill is not None
        assert not world.plan._is_stale(backfill)
        if change == "over":
            world.state.assignments.current.end()
        elif change == "lost":
            world.store.losses += 1
        else:
            world.store.models = Models(OLD, None, None, 2, 2, 0, 2, 1.0)
        assert world.plan._is_stale(backfill), change


def test_backfill_that_became_stale_reports_nothing() -> None:
    world = World()
    world.meanwhile = world.state.assignments.current.end
    assert world.run() == []
