"""A learner's items -> Redis: once a second what readers and workers should have, most moved first."""

import logging
import time
from collections.abc import Callable

import numpy as np
import redis

from models.arrays import Flags, Floats, Ints
from models.ids.vocabulary_file import FIRST_KNOWN
from models.items.health import Health
from models.items.learner import ItemLearner
from stream.items import metrics
from stream.items.inputs import InputsPublisher
from stream.items.published import Pace, Published, merged
from stream.store.item_rows import ItemRows
from stream.store.item_writer import ItemWriter, LostError, Scoring
from stream.store.keys import ItemKeys

logger = logging.getLogger(__name__)

#: How often it is seen whether what is learned is sane, which takes a moment where items are many (s).
LOOK_EVERY_S = 5.0
#: Rows that are copied at once where all are.
ROWS_AT_ONCE = 8_192


class Publisher:
    """Publishes one learner's items, and says that it does not where the learner has gone wrong."""

    def __init__(
        self,
        client: "redis.Redis",
        key_prefix: str,
        learner: ItemLearner,
        bytes_per_s: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        artifact, live = learner.artifact, learner.live
        self._learner, self._budget, self._clock = learner, bytes_per_s, clock
        self._version = artifact.version
        half_lives_ms = float(live.half_lives_ms[0]), float(live.half_lives_ms[1])
        self._pace = Pace(_taste(artifact.golden_vectors), live.weights, half_lives_ms)
        self._published = Published(artifact.items.dimension, self._pace)
        scoring = Scoring(len(artifact.item_ids), _popular(learner), live.weights, half_lives_ms)
        keys = ItemKeys(key_prefix, artifact.version)
        self._writer = ItemWriter(client, keys, scoring, self._published.rows, clock)
        self._inputs = InputsPublisher(client, key_prefix, learner, bytes_per_s, clock)
        #: Rows whose item is gone since the last time, of those that readers know.
        self._removed = np.zeros(0, np.int64)
        #: The step up to which changed rows were looked at, and rows that waited since.
        self._step = 0
        self._waiting = np.zeros(0, np.int64)
        self._stopped = ""
        self._look_at_s = 0.0

    @property
    def stopped(self) -> str:
        """Return why nothing is published, empty while all is well."""
        return self._stopped

    def publish(self) -> None:
        """Publish what has moved. Raises redis.RedisError, and ReplacedError where another learner does."""
        self._take_removed()
        if self._clock() >= self._look_at_s:
            self._look_at_s = self._clock() + LOOK_EVERY_S
            self._look_after()
        if self._writer.run == 0:
            self._begin()
        if self._stopped:
            self._writer.stop(self._stopped, self._learner.now_ms)
            self._inputs.stop(self._stopped)
            return
        try:
            self._writer.flush()
            self._publish_changes()
        except LostError as error:
            logger.warning("%s", error)
            self._begin()
        try:
            self._inputs.publish()
        except LostError:
            self._inputs.begin()

    def _look_after(self) -> None:
        """See whether what is learned is fit to be shown."""
        health = self._learner.health()
        self._show(health)
        if bool(health.reason) != bool(self._stopped):
            what = f"are not published: {health.reason}" if health.reason else "are sane again, and published"
            logger.warning("model %s: its live items %s", self._version, what)
        self._stopped = health.reason

    def delete(self) -> None:
        """Delete what is published."""
        self._writer.delete()
        self._inputs.delete()

    def _take_removed(self) -> None:
        """Take from the learner which items are gone: each time, as these are ids, and rows are no more."""
        removed = self._learner.names.removed
        known = self._learner.artifact.vocabulary.item_indices(removed) - FIRST_KNOWN
        rows = [self._published.row_of(item_id) for item_id in removed]
        found = np.concatenate([np.array(rows, np.int64), known])
        self._removed = merged(self._removed, found[found >= 0])
        removed.clear()

    def _begin(self) -> None:
        """Publish everything."""
        self._removed = np.zeros(0, np.int64)
        self._step, self._waiting = self._learner.step, np.zeros(0, np.int64)
        self._published = Published(self._learner.outputs.shape[1], self._pace)
        self._writer.rows_of = self._published.rows
        rows = np.sort(self._learner.changed_since(0))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            self._published.note(self._rows(rows[start : start + ROWS_AT_ONCE]))
        self._published.note(self._published.gone(self._missing()))
        started_s = self._clock()
        self._writer.begin(len(self._learner.item_ids), self._learner.now_ms)
        seconds = self._clock() - started_s
        logger.info("model %s: %d items published in %.2f s", self._version, len(rows), seconds)
        self._note_published(0)

    def _publish_changes(self) -> None:
        learner = self._learner
        gone, step = self._gone_rows(), learner.step
        waiting = self._waiting[self._may_be_shown(self._waiting)]
        rows = merged(learner.changed_since(self._step), waiting)
        rows, late = self._published.with_room(rows, self._budget)
        now = _joined(self._rows(rows), self._published.gone(gone))
        chosen, waiting = self._published.choose(now, learner.now_ms, self._budget)
        delta = now.select(chosen)
        self._published.note(delta)
        self._step, self._removed = step, np.zeros(0, np.int64)
        self._waiting = np.concatenate([now.row[waiting], late])
        size = self._writer.publish(delta, len(learner.item_ids), learner.now_ms)
        self._note_published(size)

    def _missing(self) -> Ints:
        """Return the rows of the model's own items that are not there any more."""
        names = self._learner.artifact.item_ids
        found = [row for row, item_id in enumerate(names) if self._learner.item_ids[row] != item_id]
        rows = np.array(found, np.int64)
        return rows[~self._may_be_shown(rows)]

    def _gone_rows(self) -> Ints:
        """Return the rows whose item readers have, and which have none now that they may see."""
        found = merged(self._removed, self._waiting)
        is_theirs = self._published.is_there(found) | (found < len(self._learner.artifact.item_ids))
        return found[is_theirs & ~self._may_be_shown(found)]

    def _may_be_shown(self, rows: Ints) -> Flags:
        """Return which rows (n,) have an item that readers may see."""
        if not len(rows):
            return np.zeros(0, np.bool_)
        learner = self._learner
        is_live = learner.is_there[rows] & (learner.revision[rows] > 0)
        return np.asarray(learner.is_known[rows] | is_live, np.bool_)

    def _rows(self, rows: Ints) -> ItemRows:
        found = self._learner.shown.rows(rows)
        return ItemRows(
            rows,
            found.outputs,
            found.counts.astype(np.float32),
            found.counted_ms,
            np.zeros(len(rows), np.bool_),
            found.item_ids,
            found.categories,
        )

    def _note_published(self, size: int) -> None:
        version, known = self._version, len(self._learner.artifact.item_ids)
        metrics.published_bytes_total.labels(version).inc(size)
        metrics.published_timestamp_seconds.labels(version).set(self._clock())
        metrics.waiting_rows.labels(version).set(len(self._waiting))
        live, new = self._published.counts(known)
        metrics.live.labels(version).set(live)
        metrics.new.labels(version).set(new)

    def _show(self, health: Health) -> None:
        version = self._version
        metrics.norm.labels(version).set(health.mean_norm)
        metrics.loss.labels(version, "live").set(health.loss)
        metrics.loss.labels(version, "trained").set(health.frozen_loss)
        metrics.sane.labels(version).set(float(health.is_sane))


def _joined(first: ItemRows, second: ItemRows) -> ItemRows:
    return ItemRows(
        np.concatenate([first.row, second.row]),
        np.concatenate([first.vector, second.vector]),
        np.concatenate([first.count, second.count]),
        np.concatenate([first.counted_ms, second.counted_ms]),
        np.concatenate([first.is_gone, second.is_gone]),
        [*first.item_ids, *second.item_ids],
        [*first.categories, *second.categories],
    )


def _taste(golden_vectors: Floats | None) -> float:
    """Return how far a score moves with a vector that moves by 1 in any direction, about."""
    if golden_vectors is None or not len(golden_vectors):
        return 1.0
    lengths = np.linalg.norm(golden_vectors, axis=1)
    return float(np.median(lengths)) / float(np.sqrt(golden_vectors.shape[1]))


def _popular(learner: ItemLearner) -> Floats:
    """Return the direction (D,) of the frozen popularity in the artifact's space."""
    dimension = learner.outputs.shape[1]
    last = np.zeros(dimension, np.float32)
    last[-1] = 1
    rotation = learner.artifact.towers.rotation
    return last if rotation is None else (last @ rotation.numpy()).astype(np.float32)
