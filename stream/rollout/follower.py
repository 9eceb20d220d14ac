"""Following what is published: a poll about once a second, and the next step of the rollout."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import redis

from stream import metrics
from stream.encoding.live_models import ArtifactSource, LiveModels
from stream.encoding.refresher import Refresher
from stream.rollout.backfill import Backfiller
from stream.rollout.backfill_plan import BackfillPlan
from stream.rollout.categories import CategoryWriter
from stream.rollout.cleanup import clean_up
from stream.rollout.decision import Decision, Situation, Step, decide
from stream.rollout.loading import ModelLoader
from stream.rollout.state import POLL_EVERY_S, RolloutState
from stream.rollout.watch import PublicationWatch
from stream.store.model_registry import ModelChangeError
from stream.store.registry_state import Models

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """What a follower must know of its worker."""

    #: Partitions of the topic.
    partitions: int
    #: Share of the users who must have a new model before it serves.
    coverage: float
    #: How long a replaced model is kept (s).
    keep_previous_s: float
    #: Users a second that are cleaned up after a change at most.
    users_per_s: float


class ModelFollower:
    """One worker's part in a rollout; used from the event loop alone."""

    def __init__(
        self,
        settings: FollowSettings,
        source: ArtifactSource,
        state: RolloutState,
        refresher: Refresher,
        backfiller: Backfiller,
    ) -> None:
        self._settings = settings
        self._source = source
        self._state = state
        self._live: LiveModels = state.live
        self._refresher = refresher
        self._loader = ModelLoader(source, state.live)
        self._categories = CategoryWriter(state.live, backfiller)
        self._plan = BackfillPlan(state, backfiller, self._categories)
        self._published = PublicationWatch(source)
        self._served = state.live.serving
        for version in state.live.loaded:
            state.coverage.note_loaded(version, state.assignments.current.number)

    async def run(self) -> None:
        """Follow for ever."""
        await asyncio.gather(
            self._published.run(),
            self._poll_for_ever(),
            self._plan.run(),
            self._for_all_workers("vectors of cold-start users at categories", self._categories.write),
            self._for_all_workers("cleaning up", self._clean_up),
        )

    async def _for_all_workers(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step again and again while this worker holds the first partition: one does it for all."""
        while True:
            await asyncio.sleep(POLL_EVERY_S / 5)
            if self._state.holds_first():
                try:
                    await step()
                except (redis.RedisError, TimeoutError) as error:
                    logger.info("%s: this waits for Redis (%s)", what, error or "it is slow")
                    await asyncio.sleep(POLL_EVERY_S)

    async def _clean_up(self) -> None:
        await clean_up(self._live.store, self._settings.users_per_s)
        await asyncio.sleep(POLL_EVERY_S)

    # -- polling and deciding

    async def _poll_for_ever(self) -> None:
        while True:
            try:
                await self._poll()
            except ModelChangeError as error:  # another worker was faster
                logger.info("the step is thought over: %s", error)
            except (redis.RedisError, TimeoutError) as error:
                logger.info("which models are live is not known at the moment (%s)", error or "Redis is slow")
            await asyncio.sleep(POLL_EVERY_S)

    async def _poll(self) -> None:
        state, store = self._state, self._live.store
        await asyncio.to_thread(self._live.claim_prefix)
        models = await asyncio.to_thread(store.poll)
        self._refresher.writer.note_poll()
        if state.coverage.note_assignment(state.assignments.current.number):
            metrics.model_coverage.clear()
        if store.losses != state.losses:
            await self._on_loss(store.losses)
        if version := await self._loader.take_loaded(self._published.number):
            state.coverage.note_loaded(version, state.assignments.current.number)
        if models is None:
            return
        self._notice(models)
        await self._write_cold_start(models)
        await self._act(decide(self._situation(models)))
        state.progress = await asyncio.to_thread(store.registry.progress)
        await self._take_back(models)
        metrics.show_models(models.serving.version, state.is_whole())

    async def _on_loss(self, losses: int) -> None:
        logger.warning("Redis has lost vectors: all users are backfilled")
        await asyncio.to_thread(self._live.renew_epoch)
        await asyncio.to_thread(self._live.store.registry.request_backfill, range(self._settings.partitions))
        self._state.coverage.note_loss()
        self._state.losses = losses

    def _notice(self, models: Models) -> None:
        serving = models.serving.version
        if serving != self._served:
            logger.info("readers get model %s now, instead of %s", serving, self._served or "none")
            metrics.model_changes_total.labels("served").inc()
            self._served = serving
        wanted = {wanted.version} if (wanted := self._published.wanted) else set()
        self._live.keep({model.version for model in models.live} | wanted)
        self._state.with_cold_start &= self._live.loaded

    async def _write_cold_start(self, models: Models) -> None:
        for model in models.live:
            if model.version in self._live.loaded - self._state.with_cold_start:
                await self._refresher.write_cold_start(model.version)
                self._state.with_cold_start.add(model.version)

    async def _take_back(self, models: Models) -> None:
        """Say of partitions that came from another worker that their users have to be written once more.

        They were written with the staged model there, and changed here before it was loaded.
        """
        state, staged, covered = self._state, models.staged, self._state.progress.covered
        if staged is None or state.assignments.current.is_over:
            return
        for partition in state.assignments.current.partitions:
            done, total = covered.get(partition, (0, 1))
            if done >= total and not state.coverage.is_written(partition, staged, models, covered):
                arguments = staged.version, partition, 0, max(total, 1), state.losses
                await asyncio.to_thread(self._live.store.report_coverage, *arguments)

    def _situation(self, models: Models) -> Situation:
        return Situation(
            wanted=self._published.wanted,
            models=models,
            loaded=self._live.loaded,
            refused=self._loader.refused(self._published.number),
            now_ms=int(time.time() * 1000),
            keep_previous_ms=int(self._settings.keep_previous_s * 1000),
        )

    # -- the next step

    async def _act(self, decision: Decision) -> None:
        registry, version = self._live.store.registry, decision.version
        if decision.step is Step.NOTHING:
            return
        if decision.step is Step.LOAD:
            self._loader.start(version)
            return
        if decision.step is Step.STAGE:
            arguments = version, self._published.number, self._settings.partitions, self._settings.coverage
            await asyncio.to_thread(registry.stage, *arguments)
        elif decision.step is Step.ROLL_BACK:
            await asyncio.to_thread(registry.rollback, version)
        elif decision.step is Step.RETIRE:
            await asyncio.to_thread(registry.retire, version)
        logger.info("%s: model %s", decision.step.value, version)
        metrics.model_changes_total.labels(decision.step.name.lower()).inc()
