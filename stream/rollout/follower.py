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
from stream.rollout.backfill import Rewriter, Walk
from stream.rollout.categories import CategoryWriter
from stream.rollout.cleanup import clean_up
from stream.rollout.coverage import Ledger
from stream.rollout.decision import Decision, Situation, Step, decide
from stream.store.model_registry import ChangeProgress, LiveModel, Models

logger = logging.getLogger(__name__)

#: Seconds between two looks.
LOOK_EVERY_S = 1.0

#: The partition whose holder does what one worker does for all.
FIRST = 0

#: Seconds between two reports of how far a walk is.
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
        rewriter: Rewriter,
    ) -> None:
        self._settings = settings
        self._source = source
        self._live = live
        self._refresher = refresher
        self._rewriter = rewriter
        self._categories = CategoryWriter(live, rewriter)
        self._ledger = Ledger()
        for version in live.loaded:  # before there were any partitions
            self._ledger.note_loaded(version, rewriter.assignment - 1)
        #: The partitions that this worker holds and has restored.
        self._held: Collection[int] = ()
        self._loading: tuple[str, asyncio.Task[Encoder]] | None = None
        #: Version -> number of its publication that was refused.
        self._refused: dict[str, int] = {}
        self._wanted: Publication | None = None
        self._has_unseen: set[str] = set()
        self._losses = live.store.losses
        self._progress = ChangeProgress()
        self._served = live.serving

    async def run(self, held: Callable[[], Collection[int]]) -> None:
        """Follow for ever; `held` says which partitions this worker holds and has restored."""
        await asyncio.gather(
            self._look_for_ever(held),
            self._rewrite_for_ever(),
            self._for_all_workers("what users never seen get at categories", self._categories.write),
            self._for_all_workers("cleaning up", self._clean_up),
        )

    async def _for_all_workers(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step again and again while this worker holds the first partition: one does it for all."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S / 5)
            if FIRST in self._held:
                try:
                    await step()
                except (redis.RedisError, TimeoutError) as error:
                    logger.info("%s: this waits for Redis (%s)", what, error or "it is slow")
                    await asyncio.sleep(LOOK_EVERY_S)

    async def _clean_up(self) -> None:
        await clean_up(self._live.store, self._settings.users_per_s)
        await asyncio.sleep(LOOK_EVERY_S)

    # -- looking and deciding

    async def _look_for_ever(self, held: Callable[[], Collection[int]]) -> None:
        while True:
            self._held = held()
            try:
                await self._look()
            except (redis.RedisError, TimeoutError) as error:
                logger.info("which models are live is not known at the moment (%s)", error or "Redis is slow")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        store = self._live.store
        models = await asyncio.to_thread(store.look)
        if self._ledger.note_assignment(self._rewriter.assignment):
            metrics.model_coverage.clear()
        if store.losses != self._losses:
            await self._on_loss(store.losses)
        await self._end_loading()
        if models is None:
            return
        self._notice(models)
        await self._write_unseen(models)
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
            if done >= total and not self._ledger.is_written(partition, staged, models, covered):
                arguments = staged.version, partition, 0, max(total, 1), self._losses
                await asyncio.to_thread(self._live.store.report_coverage, *arguments)

    async def _on_loss(self, losses: int) -> None:
        logger.warning("Redis has lost vectors: all users are written again from state")
        await asyncio.to_thread(self._live.renew_epoch)
        await asyncio.to_thread(self._live.store.registry.rewrite, range(self._settings.partitions))
        self._ledger.note_loss()
        self._losses = losses

    def _notice(self, models: Models) -> None:
        serving = models.serving.version
        if serving != self._served:
            logger.info("readers get model %s now, instead of %s", serving, self._served or "none")
            metrics.model_changes_total.labels("served").inc()
            self._served = serving
        wanted = {self._wanted.version} if self._wanted else set()
        self._live.keep({model.version for model in models.live} | wanted)
        self._has_unseen &= self._live.loaded

    async def _write_unseen(self, models: Models) -> None:
        for model in models.live:
            if model.version in self._live.loaded - self._has_unseen:
                await self._refresher.write_unseen(model.version)
                self._has_unseen.add(model.version)

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
            self._ledger.note_loaded(version, self._rewriter.assignment)

    # -- writing users again

    async def _rewrite_for_ever(self) -> None:
        walk: Walk | None = None
        while True:
            if walk is None or self._is_void(walk):
                walk = self._next_walk()
            if walk is None:
                await asyncio.sleep(LOOK_EVERY_S / 5)
                continue
            try:
                await self._rewriter.step(walk, partial(self._is_void, walk))
                if not self._is_void(walk):
                    await self._report(walk)
                if walk.is_complete:
                    walk = None
            except (redis.RedisError, TimeoutError) as error:
                logger.info("writing users again waits for Redis (%s)", error or "it is slow")
                await asyncio.sleep(LOOK_EVERY_S)

    def _missing(self, partition: int) -> list[LiveModel]:
        models, progress = self._live.store.models, self._progress
        if models is None:
            return []
        return self._ledger.missing(partition, models, progress.covered, progress.to_rewrite)

    def _next_walk(self) -> Walk | None:
        if self._rewriter.assignment != self._ledger.assignment or self._losses != self._live.store.losses:
            return None  # not looked since
        for partition in sorted(self._held):
            missing = [model for model in self._missing(partition) if self._may_walk(partition, model)]
            if missing:
                return self._rewriter.walk(partition, missing, self._losses)
        return None

    def _may_walk(self, partition: int, model: LiveModel) -> bool:
        """Return whether users may get a model: a staged one serves as soon as all partitions' users have it.

        By then, users never seen must have it, too.
        """
        models = self._live.store.models
        waits_for_categories = partition == FIRST and models is not None and model == models.staged
        return model.version in self._has_unseen and (not waits_for_categories or self._categories.has(model))

    def _is_void(self, walk: Walk) -> bool:
        models = self._live.store.models
        live = {model.version for model in models.live} if models else set()
        return (
            walk.assignment != self._rewriter.assignment
            or walk.losses != self._live.store.losses
            or not walk.versions <= live
        )

    async def _report(self, walk: Walk) -> None:
        """Say how far a walk is, now and then and at its end."""
        store, partition = self._live.store, walk.partition
        now = time.monotonic()
        if not walk.is_complete and now - walk.reported_at < REPORT_EVERY_S:
            return
        walk.reported_at = now
        total = walk.done if walk.is_complete else max(walk.total, walk.done + 1)
        metrics.model_coverage.labels(str(partition)).set(walk.done / max(total, 1))
        staged = store.models.staged if store.models else None
        if staged and staged in walk.models:
            await asyncio.to_thread(
                store.report_coverage, staged.version, partition, walk.done, total, walk.losses
            )
        if walk.is_complete:
            await self._note_complete(walk)

    async def _note_complete(self, walk: Walk) -> None:
        store = self._live.store
        await asyncio.to_thread(store.look)
        if self._is_void(walk):
            return
        models = store.models
        if models and self._live.loaded & {model.version for model in models.live} <= walk.versions:
            await asyncio.to_thread(store.registry.rewritten, walk.partition)
        self._ledger.note_walked(walk.partition, walk.models)
        self._progress = await asyncio.to_thread(store.registry.progress)
        logger.info(
            "partition %d: %d users written with model %s in %.1f s",
            *(walk.partition, walk.done, ", ".join(sorted(walk.versions))),
            time.monotonic() - walk.started_at,
        )
