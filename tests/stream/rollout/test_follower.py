"""A follower goes on where a step was taken already, by another worker."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

from stream.rollout import follower
from stream.rollout.follower import FollowSettings, ModelFollower
from stream.store.model_registry import ModelChangeError


def test_step_that_another_worker_has_made_impossible_ends_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where one retires the previous model in the moment in which another rolls back to it."""
    monkeypatch.setattr(follower, "POLL_EVERY_S", 0.001)
    caplog.set_level(logging.INFO)
    store = SimpleNamespace(losses=0)
    live = SimpleNamespace(store=store, serving="m1", loaded=frozenset())
    state = SimpleNamespace(live=live)
    found = ModelFollower(
        FollowSettings(1, 1.0, 0.0, 1.0),
        *(SimpleNamespace(), state, SimpleNamespace(), SimpleNamespace()),  # type: ignore[arg-type]
    )
    polls: list[int] = []

    async def poll() -> None:
        polls.append(len(polls))
        if len(polls) == 2:
            raise ModelChangeError("model m1 serves and no previous one is kept")

    async def run() -> None:
        following = asyncio.create_task(found._poll_for_ever())
        while len(polls) < 4 and not following.done():
            await asyncio.sleep(0.001)
        assert not following.done(), following.exception()
        following.cancel()

    monkeypatch.setattr(found, "_poll", poll)
    asyncio.run(asyncio.wait_for(run(), 60))
    assert caplog.messages == ["the step is thought over: model m1 serves and no previous one is kept"]
