"""Every live model's categories are written once, and again where Redis lost them."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import redis

from stream.rollout.categories import CategoryWriter
from stream.store.registry_state import LiveModel, Models


def models(*live: LiveModel) -> Models:
    """Return the first as the serving model, the second as a staged one."""
    staged = live[1] if len(live) > 1 else None
    return Models(live[0], staged, None, 9, 1, 0, 4, 1.0)


FIRST, SECOND = LiveModel("m1", 1), LiveModel("m2", 2)


class World:
    """Takes the place of what the writer works with; remembers what it writes."""

    def __init__(self, *live: LiveModel) -> None:
        self.store = SimpleNamespace(losses=0, models=models(*live))
        self.loaded = {"m1", "m2"}
        self.written: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.writer = CategoryWriter(self, self)  # type: ignore[arg-type]

    def categories(self, version: str) -> list[str]:
        return [f"{version} c"]

    async def write_categories(self, version: str, categories: Sequence[str]) -> None:
        assert categories == self.categories(version)
        self.meanwhile()
        self.written.append(version)

    def write(self) -> list[str]:
        self.written.clear()
        asyncio.run(self.writer.write())
        return list(self.written)

    def lose(self) -> None:
        self.store.losses += 1


def test_each_live_model_that_is_loaded_is_written_once() -> None:
    world = World(FIRST)
    world.loaded.remove("m1")
    assert world.write() == []
    assert not world.writer.has(FIRST)
    world.loaded.add("m1")
    assert world.write() == ["m1"]
    world.store.models = models(FIRST, SECOND)
    assert not world.writer.has(SECOND)
    assert world.write() == ["m2"]
    assert world.writer.has(SECOND)
    assert world.write() == []


def test_model_that_was_given_up_and_staged_again_is_written_again() -> None:
    world = World(FIRST, SECOND)
    assert world.write() == ["m1", "m2"]
    world.store.models = models(FIRST, LiveModel("m2", 3))
    assert world.write() == ["m2"]
    world.store.models = models(FIRST)
    assert world.write() == []
    world.store.models = models(FIRST, LiveModel("m2", 3))
    assert world.write() == ["m2"]


def test_what_redis_lost_is_written_again_also_in_the_midst() -> None:
    world = World(FIRST, SECOND)
    world.write()
    world.lose()
    assert world.write() == ["m1", "m2"]
    world.lose()
    world.meanwhile = world.lose
    assert world.write() == ["m1"]
    assert not world.writer.has(FIRST)
    world.meanwhile = lambda: None
    assert world.write() == ["m1", "m2"]
    assert world.writer.has(FIRST)


def test_what_redis_did_not_take_counts_as_not_written() -> None:
    def refuse() -> None:
        raise redis.ConnectionError("away")

    world = World(FIRST)
    world.meanwhile = refuse
    with pytest.raises(redis.ConnectionError):
        world.write()
    assert not world.writer.has(FIRST)
