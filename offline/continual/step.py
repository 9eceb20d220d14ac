"""One step: read, hold back, go on, judge, learn the rest, publish. What is active says where it stands."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from models.arrays import Flags
from models.artifact.artifact import Artifact, load
from models.artifact.publications import Publication
from models.artifact.stores import Store
from models.log.behaviour_log import BehaviourLog
from offline.continual import metrics
from offline.continual.gate import Verdict, judge
from offline.continual.held_back import Parts, parts_of, without_future
from offline.training.continuing import Learned, go_on_from, learned_of, settings_of
from offline.training.learned_until import learned_until, newer_rows
from offline.training.parallel import Processes, one_process
from offline.training.settings import TrainSettings
from stream.store.lease import Lease
from stream.store.model_registry import ModelRegistry

logger = logging.getLogger(__name__)

Result = Literal["published", "refused", "too_few", "rolling_out"]


@dataclass(frozen=True, slots=True)
class Done:
    """How a step ended, in a word and in a line."""

    result: Result
    line: str


class Step:
    """Goes on from what serves, once per call; a step that is cut off leaves nothing to be mended.

    Nothing is remembered but what is active in the store: until the publication, which replaces exactly what
    was gone on from, a step has no effect, and after it the same rows are not new any more.
    """

    def __init__(
        self,
        read: Callable[[], BehaviourLog],
        store: Store,
        registry: ModelRegistry,
        lease: Lease,
        min_held_back: int = 200,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._store = store
        self._registry = registry
        self._lease = lease
        self._min_held_back = min_held_back
        self._clock = clock

    def __call__(self) -> Done:
        """Make one step. Raises TwintideError, LeaseLostError and OvertakenError among them."""
        active = self._store.current()
        if waiting := self._rolling_out(active):
            return Done("rolling_out", waiting)
        before = load(self._store.directory(self._gone_on_from(active)))
        log = without_future(self._read(), int(self._clock() * 1000))
        self._show_age(active, before, log)
        is_new = newer_rows(log, before.training, str(before.path))
        parts = parts_of(log, is_new, self._min_held_back)
        if parts is None:
            return Done(
                "too_few",
                f"{int(is_new.sum()):,} rows are newer than what {before.version} has learned: too few",
            )
        return self._go_on(active, before, log, parts)

    def _rolling_out(self, active: Publication) -> str:
        """Return what is waited for, empty where readers get what is active, or nobody serves yet."""
        models = self._registry.read()
        if models is None or active.version in (models.serving.version, self._registry.progress().refused):
            return ""
        return f"readers do not get {active.version} yet, so nothing newer is made: see the workers' logs"

    def _gone_on_from(self, active: Publication) -> str:
        """Return the version that is active, or the one that serves where workers have refused that one."""
        models = self._registry.read()
        is_refused = self._registry.progress().refused == active.version
        return models.serving.version if models and is_refused else active.version

    def _go_on(self, active: Publication, before: Artifact, log: BehaviourLog, parts: Parts) -> Done:
        settings, state = settings_here(before), learned_of(before)
        processes = one_process(settings.device)
        earlier = ~parts.held_back
        judged = self._gone_on(state, log.select(earlier), parts.learned[earlier], settings, processes)
        verdict = judge(state, judged, log, parts.held_back, settings.max_items, processes)
        metrics.ndcg.labels("serving").set(verdict.before)
        metrics.ndcg.labels("new").set(verdict.after)
        if not verdict.accepted:
            return Done("refused", f"refused: {before.version} stays; what went on from it: {verdict.reason}")
        self._lease.require()
        rows = int((parts.learned | parts.held_back).sum())
        made = self._saved(before, _finished(judged, log, parts, settings, processes), verdict, rows)
        return self._publish(active, made, log, verdict, rows)

    def _gone_on(
        self, before: Learned, log: BehaviourLog, is_new: Flags, settings: TrainSettings, processes: Processes
    ) -> Learned:
        """Return what is judged."""
        return go_on_from(before, log, is_new, settings, processes)

    def _saved(self, before: Artifact, learned: Learned, verdict: Verdict, rows: int) -> Artifact:
        """Write what went on into the store, checked, and not published."""
        gate = {**asdict(verdict), "rows": rows}
        made = learned.save(self._store.where, {**before.metrics, "gate": gate})
        made.check_golden()
        return made

    def _publish(
        self, active: Publication, made: Artifact, log: BehaviourLog, verdict: Verdict, rows: int
    ) -> Done:
        """Make it active where this trainer still leads and what it went on from is still active."""
        if 0 < made.publication < active.number:  # a greater one is of a publication that was cut off
            return Done(
                "refused",
                f"refused: {made.version}, which comes of these rows, was published before and taken back",
            )
        self._lease.require()
        number = self._store.publish(made.version, instead_of=active)
        self._registry.forget_refusal()
        metrics.rows_learned_total.inc(rows)
        self._show_age(Publication(made.version, number), made, log)
        return Done(
            "published",
            f"published: model={made.version} publication={number} from={active.version} rows={rows}; "
            f"{verdict}",
        )

    def _show_age(self, active: Publication, artifact: Artifact, log: BehaviourLog) -> None:
        until_s = learned_until(artifact.training, str(artifact.path)) / 1000
        metrics.model_age_seconds.set_function(lambda: self._clock() - until_s)
        metrics.unlearned_seconds.set(max(int(log.time_ms.max()) / 1000 - until_s, 0))
        metrics.published_timestamp_seconds.set(active.number / 1000)


def settings_here(before: Artifact) -> TrainSettings:
    """Return the settings that a model was trained with; a GPU that it had then may not be here."""
    return settings_of(before, {"device": "auto"} if before.training.get("device") == "cuda" else {})


def _finished(
    judged: Learned, log: BehaviourLog, parts: Parts, settings: TrainSettings, processes: Processes
) -> Learned:
    """Return what has learned the rows too by which it was judged."""
    return go_on_from(judged, log, parts.held_back, settings, processes)
