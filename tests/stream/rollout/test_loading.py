"""A model is loaded beside those that serve, one at a time, and refused where it cannot be used."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from models.errors import ArtifactError, SettingsError, UnreachableError
from stream.rollout.loading import RETRY_AFTER_S, ModelLoader


class World:
    """An artifact store and live models; loading takes until it is let go."""

    def __init__(self) -> None:
        self.is_free = threading.Event()
        self.is_damaged = False
        self.is_away = False
        self.failure: Exception | None = None
        self.now_s = 100.0
        self.loads: list[str] = []
        self.added: list[str] = []
        self.refusals: list[tuple[str, str]] = []
        registry = SimpleNamespace(refuse=lambda version, reason: self.refusals.append((version, reason)))
        self.store = SimpleNamespace(registry=registry)
        self.loader = ModelLoader(self, self, lambda: self.now_s)  # type: ignore[arg-type]

    def load(self, version: str) -> str:
        self.loads.append(version)
        assert self.is_free.wait(60)
        if self.failure:
            raise self.failure
        if self.is_away:
            raise UnreachableError("no bucket")
        if self.is_damaged:
            raise ArtifactError("weights are damaged")
        return version

    def make(self, artifact: str) -> str:
        return artifact

    def add(self, encoder: str) -> None:
        self.added.append(encoder)

    async def loaded(self, publication: int) -> str:
        """Let the load end; return what is taken up then."""
        self.is_free.set()
        assert self.loader._loading is not None
        await asyncio.wait([self.loader._loading[1]])
        return await self.loader.take_loaded(publication)


def test_loaded_model_is_taken_up_at_the_poll_after_and_only_one_is_loaded_at_a_time() -> None:
    async def run() -> None:
        world.loader.start("m2")
        await asyncio.sleep(0.01)
        world.loader.start("m3")
        assert await world.loader.take_loaded(1) == ""
        assert await world.loaded(1) == "m2"
        assert await world.loader.take_loaded(1) == ""

    world = World()
    asyncio.run(run())
    assert (world.loads, world.added, world.refusals) == (["m2"], ["m2"], [])


def test_model_that_cannot_be_used_is_refused_until_something_else_is_published() -> None:
    async def run() -> None:
        world.loader.start("bad")
        assert await world.loaded(7) == ""

    world = World()
    world.is_damaged = True
    asyncio.run(run())
    assert (world.added, world.refusals) == ([], [("bad", "weights are damaged")])
    assert (world.loader.refused(7), world.loader.refused(8)) == (frozenset({"bad"}), frozenset())


def test_model_that_a_bucket_does_not_give_now_is_not_refused_but_tried_again_later() -> None:
    async def run() -> None:
        world.loader.start("m2")
        assert await world.loaded(7) == ""
        world.is_away = False
        world.now_s += RETRY_AFTER_S - 0.1
        world.loader.start("m2")
        assert world.loads == ["m2"]
        world.now_s += 0.1
        world.loader.start("m2")
        assert await world.loaded(7) == "m2"

    world = World()
    world.is_away = True
    asyncio.run(run())
    assert (world.loads, world.refusals, world.loader.refused(7)) == (["m2", "m2"], [], frozenset())


@pytest.mark.parametrize(
    "failure", [SettingsError("TWINTIDE_DEVICE is cuda"), RuntimeError("CUDA out of memory.\n Tried 2 GiB")]
)
def test_model_that_finds_no_gpu_or_no_room_on_it_is_refused_and_the_worker_goes_on(
    failure: Exception,
) -> None:
    async def run() -> None:
        world.loader.start("large")
        assert await world.loaded(7) == ""

    world = World()
    world.failure = failure
    asyncio.run(run())
    assert (world.added, world.refusals) == ([], [("large", " ".join(str(failure).split()))])
    assert world.loader.refused(7) == frozenset({"large"})


def test_disk_that_fails_for_a_moment_is_no_reason_to_refuse() -> None:
    async def run() -> None:
        world.loader.start("m2")
        assert await world.loaded(7) == ""
        world.failure = None
        world.now_s += RETRY_AFTER_S
        world.loader.start("m2")
        assert await world.loaded(7) == "m2"

    world = World()
    world.failure = OSError(116, "Stale file handle")
    asyncio.run(run())
    assert (world.added, world.refusals) == (["m2"], [])
