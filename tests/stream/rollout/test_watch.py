"""What is published is read apart from all else, and what was wanted outlives a store that cannot be read."""

import asyncio
import logging
import threading
import time

import pytest

from models.artifact.publications import Publication
from models.errors import ArtifactError, UnreachableError
from stream import metrics
from stream.rollout.watch import PublicationWatch


class Source:
    """Publishes, fails, or is silent until it is let go."""

    def __init__(self) -> None:
        self.published = Publication("m1", 1)
        self.failure: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def wanted(self) -> Publication:
        assert self.answers.wait(60)
        if self.failure:
            raise self.failure
        return self.published


@pytest.fixture
def source() -> Source:
    return Source()


def watch_of(source: Source) -> PublicationWatch:
    return PublicationWatch(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "failure", [UnreachableError("no bucket"), ArtifactError("damaged"), OSError(116, "Stale file handle")]
)
def test_what_was_wanted_stays_so_while_the_store_cannot_be_read(
    source: Source, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        assert (watch.wanted, watch.number) == (None, 0)
        await watch.read()
        source.failure = failure
        for _ in range(3):
            await watch.read()
        assert (watch.wanted, watch.number) == (Publication("m1", 1), 1)
        source.failure, source.published = None, Publication("m2", 2)
        await watch.read()
        assert watch.number == 2

    caplog.set_level(logging.INFO)
    watch, before = watch_of(source), metrics.publication_failures_total._value.get()
    asyncio.run(run())
    assert metrics.publication_failures_total._value.get() == before + 3
    first, second = caplog.messages  # one line when it begins, one when it is over
    assert str(failure) in first
    assert "can be read again" in second


def test_another_reason_is_said_too(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    watch = watch_of(source)
    for failure in ("away", "away", "refused"):
        source.failure = UnreachableError(failure)
        asyncio.run(watch.read())
    assert [message.rpartition(" ")[2] for message in caplog.messages] == ["away", "refused"]


def test_silent_bucket_holds_up_no_event_loop(source: Source) -> None:
    async def run() -> None:
        source.answers.clear()
        reading = asyncio.create_task(watch_of(source).read())
        for _ in range(20):
            started = time.monotonic()
            await asyncio.sleep(0.001)
            assert time.monotonic() - started < 5
        assert not reading.done()
        source.answers.set()
        await reading

    asyncio.run(run())
