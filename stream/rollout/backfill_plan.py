"""Which partition is backfilled next with which models, and what is said of how far it is."""

import asyncio
import logging
import time
from functools import partial

import redis

from stream import metrics
from stream.rollout.backfill import Backfill, Backfiller
from stream.rollout.categories import CategoryWriter
from stream.rollout.state import FIRST, POLL_EVERY_S, RolloutState
from stream.store.registry_state import LiveModel

logger = logging.getLogger(__name__)

#: Seconds between two reports of how far a backfill is.
REPORT_EVERY_S = 0.5


class BackfillPlan:
    """Backfills whatever users lack, one partition after the other; used from the event loop alone."""

    def __init__(self, state: RolloutState, backfiller: Backfiller, categories: CategoryWriter) -> None:
        self._state = state
        self._backfiller = backfiller
        self._categories = categories

    async def run(self) -> None:
        """Backfill for ever."""
        backfill: Backfill | None = None
        while True:
            if backfill is None or self._is_stale(backfill):
                backfill = self._next()
            if backfill is None:
                await asyncio.sleep(POLL_EVERY_S / 5)
                continue
            try:
                await self._backfiller.step(backfill, partial(self._is_stale, backfill))
                if not self._is_stale(backfill):
                    await self._report(backfill)
                if backfill.is_complete:
                    backfill = None
            except (redis.RedisError, TimeoutError) as error:
                logger.info("the backfill waits for Redis (%s)", error or "it is slow")
                await asyncio.sleep(POLL_EVERY_S)

    def _next(self) -> Backfill | None:
        state, assignment = self._state, self._state.assignments.current
        if assignment.is_over or not state.is_current():
            return None
        for number in sorted(assignment.partitions):
            missing = [model for model in state.missing(number) if self._may_have(number, model)]
            if missing:
                return self._backfiller.begin(assignment, number, missing, state.losses)
        return None

    def _may_have(self, partition: int, model: LiveModel) -> bool:
        """Return whether users may get a model: a staged one serves as soon as all partitions' users have it.

        By then, cold-start users must have it, too.
        """
        state, models = self._state, self._state.live.store.models
        waits_for_categories = partition == FIRST and models is not None and model == models.staged
        has_categories = not waits_for_categories or self._categories.has(model)
        return model.version in state.with_cold_start and has_categories

    def _is_stale(self, backfill: Backfill) -> bool:
        store = self._state.live.store
        live = {model.version for model in store.models.live} if store.models else set()
        return backfill.assignment.is_over or backfill.losses != store.losses or not backfill.versions <= live

    async def _report(self, backfill: Backfill) -> None:
        """Say how far a backfill is, now and then and at its end."""
        store, partition = self._state.live.store, backfill.number
        now = time.monotonic()
        if not backfill.is_complete and now - backfill.reported_at < REPORT_EVERY_S:
            return
        backfill.reported_at = now
        total = backfill.done if backfill.is_complete else max(backfill.total, backfill.done + 1)
        metrics.model_coverage.labels(str(partition)).set(backfill.done / max(total, 1))
        staged = store.models.staged if store.models else None
        if staged and staged in backfill.models:
            await asyncio.to_thread(
                store.report_coverage, staged.version, partition, backfill.done, total, backfill.losses
            )
        if backfill.is_complete:
            await self._note_complete(backfill)

    async def _note_complete(self, backfill: Backfill) -> None:
        state, store = self._state, self._state.live.store
        await asyncio.to_thread(store.poll)
        if self._is_stale(backfill):
            return
        models = store.models
        if models and state.live.loaded & {model.version for model in models.live} <= backfill.versions:
            await asyncio.to_thread(store.registry.note_backfilled, backfill.number)
        state.coverage.note_backfilled(backfill.number, backfill.models)
        state.progress = await asyncio.to_thread(store.registry.progress)
        logger.info(
            "partition %d: %d users written with model %s in %.1f s",
            *(backfill.number, backfill.done, ", ".join(sorted(backfill.versions))),
            time.monotonic() - backfill.started_at,
        )
