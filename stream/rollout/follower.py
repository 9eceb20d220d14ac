"""Following what is published: a look about once a second, the next step, and users written again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial

import redis

from models.artifact.publications import Publication
from models.errors import ArtifactError
from stream import metrics
from stream.encoding.encoder import Encoder
from stream.encoding.live_models import ArtifactSource, LiveModels
from stream.encoding.refresher import Refresher
from stream.rollout.backfill import Backfill, Backfiller
from stream.rollout.categories import CategoryWriter
from stream.rollout.cleanup import clean_up
from stream.rollout.coverage import Coverage
from stream.rollout.decision import Decision, Situation, Step, decide
from stream.store.model_registry import ChangeProgress, LiveModel, Models

logger = logging.getLogger(__name__)

#: Seconds between two looks.
POLL_EVERY_S = 1.0

#: The partition whose holder does what one worker does for all.
FIRST = 0

#: Seconds between two reports of how far a backfill is.
REPORT_EVERY_S = 0.5


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
    """One worker's part in a change of models; used from the event loop alone."""

    def __init__(
        self,
        settings: FollowSettings,
        source: ArtifactSource,
        live: LiveModels,
        refresher: Refresher,
        backfiller: Backfiller,
    ) -> None:
        self._settings = settings
        self._source = source
        self._live = live
        self._refresher = refresher
        self._backfiller = backfiller
        self._categories = CategoryWriter(live, backfiller)
        self._coverage = Coverage()
        for version in live.loaded:  # before there were any partitions
            self._coverage.note_loaded(version, backfiller.assignment - 1)
        #: The partitions that this worker holds and has restored.
        self._held: Collection[int] = ()
        self._loading: tuple[str, asyncio.Task[Encoder]] | None = None
        #: Version -> number of its publication that was refused.
        self._refused: dict[str, int] = {}
        self._wanted: Publication | None = None
        self._has_cold_start: set[str] = set()
        self._losses = live.store.losses
        self._progress = ChangeProgress()
        self._served = live.serving

    async def run(self, held: Callable[[], Collection[int]]) -> None:
        """Follow for ever; `held` says which partitions this worker holds and has restored."""
        await asyncio.gather(
            self._poll_for_ever(held),
            self._backfill_for_ever(),
            self._for_all_workers("what cold-start users get at categories", self._categories.write),
            self._for_all_workers("cleaning up", self._clean_up),
        )

    async def _for_all_workers(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step again and again while this worker holds the first partition: one does it for all."""
        while True:
            await asyncio.sleep(POLL_EVERY_S / 5)
            if FIRST in self._held:
                try:
                    await step()
                except (redis.RedisError, TimeoutError) as error:
                    logger.info("%s: this waits for Redis (%s)", what, error or "it is slow")
                    await asyncio.sleep(POLL_EVERY_S)

    async def _clean_up(self) -> None:
        await clean_up(self._live.store, self._settings.users_per_s)
        await asyncio.sleep(POLL_EVERY_S)

    # -- looking and deciding

    async def _poll_for_ever(self, held: Callable[[], Collection[int]]) -> None:
        while True:
            self._held = held()
            try:
                await self._poll()
            except (redis.RedisError, TimeoutError) as error:
                logger.info("which models are live is not known at the moment (%s)", error or "Redis is slow")
            await asyncio.sleep(POLL_EVERY_S)

    async def _poll(self) -> None:
        store = self._live.store
        models = await asyncio.to_thread(store.poll)
        if self._coverage.note_assignment(self._backfiller.assignment):
            metrics.model_coverage.clear()
        if store.losses != self._losses:
            await self._on_loss(store.losses)
        await self._end_loading()
        if models is None:
            return
        self._notice(models)
        await self._write_cold_start(models)
        await self._act(decide(await self._situation(models)))
        self._progress = await asyncio.to_thread(store.registry.progress)
        await self._take_back(models)
        is_whole = {partition: not self._missing(partition) for partition in self._held}
        metrics.show_models(models.serving.version, is_whole)

    async def _take_back(self, models: Models) -> None:
        """Say of partitions that came from another worker that their users have to be written once more.

        They were written with the staged model there, and changed here before it was loaded.
        """
        staged, covered = models.staged, self._progress.covered
        if staged is None:
            return
        for partition in self._held:
            done, total = covered.get(partition, (0, 1))
            if done >= total and not self._coverage.is_written(partition, staged, models, covered):
                arguments = staged.version, partition, 0, max(total, 1), self._losses
                await asyncio.to_thread(self._live.store.report_coverage, *arguments)

    async def _on_loss(self, losses: int) -> None:
        logger.warning("Redis has lost vectors: all users are written again from state")
        await asyncio.to_thread(self._live.renew_epoch)
        await asyncio.to_thread(self._live.store.registry.request_backfill, range(self._settings.partitions))
        self._coverage.note_loss()
        self._losses = losses

    def _notice(self, models: Models) -> None:
        serving = models.serving.version
        if serving != self._served:
            logger.info("readers get model %s now, instead of %s", serving, self._served or "none")
            metrics.model_changes_total.labels("served").inc()
            self._served = serving
        wanted = {self._wanted.version} if self._wanted else set()
        self._live.keep({model.version for model in models.live} | wanted)
        self._has_cold_start &= self._live.loaded

    async def _write_cold_start(self, models: Models) -> None:
        for model in models.live:
            if model.version in self._live.loaded - self._has_cold_start:
                await self._refresher.write_cold_start(model.version)
                self._has_cold_start.add(model.version)

    async def _situation(self, models: Models) -> Situation:
        try:
            self._wanted = await asyncio.to_thread(self._source.wanted)
        except ArtifactError as error:
            logger.warning("what is published cannot be read: %s", error)
            self._wanted = None
        number = self._wanted.number if self._wanted else 0
        return Situation(
            wanted=self._wanted,
            models=models,
            loaded=self._live.loaded,
            refused=frozenset(version for version, tried in self._refused.items() if tried == number),
            now_ms=int(time.time() * 1000),
            keep_previous_ms=int(self._settings.keep_previous_s * 1000),
        )

    async def _act(self, decision: Decision) -> None:
        registry, version = self._live.store.registry, decision.version
        number = self._wanted.number if self._wanted else 0
        if decision.step is Step.NOTHING or (decision.step is Step.LOAD and self._loading):
            return
        if decision.step is Step.LOAD:
            logger.info("loading model %s", version)
            self._loading = version, asyncio.create_task(asyncio.to_thread(self._load, version))
            return
        if decision.step is Step.STAGE:
            arguments = version, number, self._settings.partitions, self._settings.coverage
            await asyncio.to_thread(registry.stage, *arguments)
        elif decision.step is Step.ROLL_BACK:
            await asyncio.to_thread(registry.rollback, version)
        elif decision.step is Step.RETIRE:
            await asyncio.to_thread(registry.retire, version)
        logger.info("%s: model %s", decision.step.value, version)
        metrics.model_changes_total.labels(decision.step.name.lower()).inc()

    # -- loading

    def _load(self, version: str) -> Encoder:
        return self._live.make(self._source.load(version))

    async def _end_loading(self) -> None:
        if self._loading is None or not self._loading[1].done():
            return
        (version, task), self._loading = self._loading, None
        try:
            encoder = task.result()
        except ArtifactError as error:
            logger.error("model %s is refused, and what serves goes on: %s", version, error)
            metrics.model_changes_total.labels("refused").inc()
            self._refused[version] = self._wanted.number if self._wanted else 0
            await asyncio.to_thread(self._live.store.registry.refuse, version, str(error))
        else:
            self._live.add(encoder)
            self._coverage.note_loaded(version, self._backfiller.assignment)

    # -- writing users again

    async def _backfill_for_ever(self) -> None:
        backfill: Backfill | None = None
        while True:
            if backfill is None or self._is_void(backfill):
                backfill = self._next_backfill()
            if backfill is None:
                await asyncio.sleep(POLL_EVERY_S / 5)
                continue
            try:
                await self._backfiller.step(backfill, partial(self._is_void, backfill))
                if not self._is_void(backfill):
                    await self._report(backfill)
                if backfill.is_complete:
                    backfill = None
            except (redis.RedisError, TimeoutError) as error:
                logger.info("writing users again waits for Redis (%s)", error or "it is slow")
                await asyncio.sleep(POLL_EVERY_S)

    def _missing(self, partition: int) -> list[LiveModel]:
        models, progress = self._live.store.models, self._progress
        if models is None:
            return []
        return self._coverage.missing(partition, models, progress.covered, progress.to_backfill)

    def _next_backfill(self) -> Backfill | None:
        if (
            self._backfiller.assignment != self._coverage.assignment
            or self._losses != self._live.store.losses
        ):
            return None  # not looked since
        for partition in sorted(self._held):
            missing = [model for model in self._missing(partition) if self._may_backfill(partition, model)]
            if missing:
                return self._backfiller.backfill(partition, missing, self._losses)
        return None

    def _may_backfill(self, partition: int, model: LiveModel) -> bool:
        """Return whether users may get a model: a staged one serves as soon as all partitions' users have it.

        By then, cold-start users must have it, too.
        """
        models = self._live.store.models
        waits_for_categories = partition == FIRST and models is not None and model == models.staged
        return model.version in self._has_cold_start and (
            not waits_for_categories or self._categories.has(model)
        )

    def _is_void(self, backfill: Backfill) -> bool:
        models = self._live.store.models
        live = {model.version for model in models.live} if models else set()
        return (
            backfill.assignment != self._backfiller.assignment
            or backfill.losses != self._live.store.losses
            or not backfill.versions <= live
        )

    async def _report(self, backfill: Backfill) -> None:
        """Say how far a backfill is, now and then and at its end."""
        store, partition = self._live.store, backfill.partition
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
        store = self._live.store
        await asyncio.to_thread(store.poll)
        if self._is_void(backfill):
            return
        models = store.models
        if models and self._live.loaded & {model.version for model in models.live} <= backfill.versions:
            await asyncio.to_thread(store.registry.note_backfilled, backfill.partition)
        self._coverage.note_backfilled(backfill.partition, backfill.models)
        self._progress = await asyncio.to_thread(store.registry.progress)
        logger.info(
            "partition %d: %d users written with model %s in %.1f s",
            *(backfill.partition, backfill.done, ", ".join(sorted(backfill.versions))),
            time.monotonic() - backfill.started_at,
        )
