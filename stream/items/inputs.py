"""A learner's inputs -> Redis: what workers encode with, beside what rankers score (publisher.py)."""

import time
from collections.abc import Callable

import numpy as np
import redis

from models.arrays import Doubles, Flags, Floats, Ints
from models.items.learner import ItemLearner
from models.quantised import quantised
from stream.items import metrics
from stream.items.published import NOTICEABLE, merged
from stream.store.input_rows import InputRows, input_row_bytes
from stream.store.item_writer import ItemWriter, Scoring
from stream.store.keys import ItemKeys


class InputsPublisher:
    """Publishes one learner's inputs: of new items, and of those with readers enough, where they moved.

    Every method raises redis.RedisError, LostError where `begin` is due, and ReplacedError where another
    learner publishes.
    """

    _waiting: Ints

    def __init__(
        self,
        client: "redis.Redis",
        key_prefix: str,
        learner: ItemLearner,
        bytes_per_s: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        artifact, trained = learner.artifact, learner.trained
        self._learner, self._version = learner, artifact.version
        self._at_most = bytes_per_s // input_row_bytes(trained.inputs.shape[1])
        #: How far a score moves with an input that moves by 1, about: as the newest one enters.
        lengths = np.linalg.norm(artifact.item_vectors, axis=1)
        longest = float(np.abs(trained.by_place).max()) * trained.scale
        self._taste = longest * float(np.median(lengths)) / float(np.sqrt(artifact.items.dimension))
        keys = ItemKeys(key_prefix, artifact.version, "inputs")
        self._writer = ItemWriter(client, keys, Scoring(len(artifact.item_ids)), self._rows_between, clock)
        self._forget_published()

    def begin(self) -> None:
        """Publish everything."""
        self._forget_published()
        rows = np.sort(self._learner.changed_since(0))
        self._note(self._rows(rows[self._learner.shown.has_inputs(rows)]))
        self._step = self._learner.step
        self._writer.begin(len(self._learner.item_ids), self._learner.now_ms)

    def publish(self) -> None:
        """Publish what has moved, what moved most first."""
        if self._writer.run == 0:
            self.begin()
        self._writer.flush()
        learner, gone = self._learner, self._gone()
        step, rows = learner.step, merged(learner.changed_since(self._step), self._waiting)
        rows = rows[learner.is_there[rows] & learner.shown.has_inputs(rows)]
        now = self._rows(rows)
        moved = self._moved(now)
        order = np.argsort(-moved, kind="stable")
        order = order[moved[order] >= NOTICEABLE]
        chosen, waiting = order[: self._at_most], order[self._at_most :]
        delta = _joined(gone, now.select(chosen))
        self._note(delta)
        self._step, self._waiting = step, rows[waiting]
        size = self._writer.publish(delta, len(learner.item_ids), learner.now_ms)
        metrics.published_input_bytes_total.labels(self._version).inc(size)

    def stop(self, reason: str) -> None:
        """Tell workers that what there is must not be used any more."""
        if self._writer.run == 0:
            self.begin()
        self._writer.stop(reason, self._learner.now_ms)

    def delete(self) -> None:
        """Delete what is published."""
        self._writer.delete()

    def _forget_published(self) -> None:
        """Begin with workers that have nothing: the rows as they have them."""
        self._published = self._rows(np.zeros(0, np.int64))
        #: The step up to which changed rows were looked at, and rows that waited since.
        self._step = 0
        self._waiting = np.zeros(0, np.int64)
        self._is_there = np.zeros(0, np.bool_)

    def _rows(self, rows: Ints) -> InputRows:
        """Return what the learner has of rows."""
        learner = self._learner
        vectors = learner.shown.inputs(rows)
        values, scale = quantised(vectors)
        return InputRows(rows, learner.hashes[rows], values, scale, np.zeros(len(rows), np.bool_))

    def _gone(self) -> InputRows:
        """Return the rows whose item workers have, and which is not there any more."""
        have = self._published
        rows = np.flatnonzero(self._is_there & ~have.is_gone)
        learner = self._learner
        is_other = ~learner.is_there[rows] | (learner.hashes[rows] != have.hash[rows])
        found = have.select(rows[is_other])
        return InputRows(
            found.row, found.hash, np.zeros_like(found.values), np.zeros_like(found.scale), ~found.is_gone
        )

    def _moved(self, now: InputRows) -> Doubles:
        """Return about how far a score moves by what workers do not have of each row (n,)."""
        moved = np.full(len(now), np.inf)
        have, known = self._published, self._learner.trained.inputs
        is_had = self._is_had(now.row)
        places = np.flatnonzero(is_had)
        row = now.row[places]
        places = places[~have.is_gone[row] & (have.hash[row] == now.hash[places])]
        row = now.row[places]
        before = have.values[row] * have.scale[row, None]
        moved[places] = self._distance(now.select(places), before)
        # What workers do not have of a known item enters as it was trained.
        places = np.flatnonzero(~is_had & self._learner.is_known[now.row])
        moved[places] = self._distance(now.select(places), known[now.row[places]])
        return moved

    def _distance(self, now: InputRows, before: Floats) -> Doubles:
        difference = now.values * now.scale[:, None] - before
        return np.asarray(self._taste * np.linalg.norm(difference, axis=1), np.float64)

    def _is_had(self, rows: Ints) -> Flags:
        """Return which rows (n,) workers have, be it as gone."""
        found = np.zeros(len(rows), np.bool_)
        inside = rows < len(self._is_there)
        found[inside] = self._is_there[rows[inside]]
        return found

    def _rows_between(self, first: int, end: int) -> InputRows:
        """Return what workers have of the rows from one to before another."""
        return self._published.select(first + np.flatnonzero(self._is_there[first:end]))

    def _note(self, rows: InputRows) -> None:
        """Take note that workers get these rows."""
        if not len(rows):
            return
        have = self._published = _wider(self._published, int(rows.row.max()) + 1)
        self._is_there = np.pad(self._is_there, (0, len(have) - len(self._is_there)))
        # In their order: a row that is another item's now is first gone.
        have.hash[rows.row], have.values[rows.row] = rows.hash, rows.values
        have.scale[rows.row], have.is_gone[rows.row] = rows.scale, rows.is_gone
        self._is_there[rows.row] = True


def _wider(rows: InputRows, count: int) -> InputRows:
    """Return a table of at least `count` rows, each at its place."""
    if count <= len(rows):
        return rows  # padding by nothing would copy all of it, each second
    room = count * 5 // 4 + 64 - len(rows)
    return InputRows(
        np.arange(len(rows) + room),
        np.pad(rows.hash, (0, room)),
        np.pad(rows.values, ((0, room), (0, 0))),
        np.pad(rows.scale, (0, room)),
        np.pad(rows.is_gone, (0, room)),
    )


def _joined(gone: InputRows, now: InputRows) -> InputRows:
    """Return both; a row that is gone and another item's by now is that alone."""
    gone = gone.select(np.flatnonzero(~np.isin(gone.row, now.row)))
    return InputRows(
        np.concatenate([gone.row, now.row]),
        np.concatenate([gone.hash, now.hash]),
        np.concatenate([gone.values, now.values]),
        np.concatenate([gone.scale, now.scale]),
        np.concatenate([gone.is_gone, now.is_gone]),
    )
