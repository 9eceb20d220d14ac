"""Encoded users -> Redis: tried again for as long as it takes, or until the partitions are given away."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis
import tenacity

from stream import metrics
from stream.encoding.due import TakenUsers
from stream.encoding.live_models import LiveModels
from stream.store.user_row import UserRow
from stream.windows.assignment import Assignment

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Users taken together, and what is to be written of them."""

    assignment: Assignment
    users: TakenUsers
    rows: Sequence[UserRow]
    #: Users to delete, each with the source offset that said so.
    forgotten: Sequence[tuple[str, int]]
    #: When they were taken, and encoded (monotonic).
    taken_at: float
    encoded_at: float = 0.0


class VectorWriter:
    """Writes batches from the event loop, and knows whether Redis takes them."""

    def __init__(self, live_models: LiveModels) -> None:
        #: Why Redis was last refused, and since when (monotonic); empty while it answers.
        self.redis_error = ""
        self.redis_error_since = 0.0
        #: When Redis had the last batch (monotonic): the event loop may learn it later.
        self.written_at = 0.0
        self._live_models = live_models
        self._is_writing = False

    async def write(self, batch: EncodedBatch) -> bool:
        """Write the rows, trying until the assignment is over; return whether that worked."""
        # It refers to itself, so it keeps what it was given until the next garbage collection: not the rows.
        assignment, written = batch.assignment, 0
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(redis.RedisError),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
            stop=lambda _: assignment.is_over,
            before_sleep=self._on_redis_error,
        )
        self._is_writing = True
        try:
            async for attempt in retrying:
                with attempt:
                    written, self.written_at = await asyncio.to_thread(self._timed_write, batch)
        except tenacity.RetryError as error:
            self._note_error(error.last_attempt.exception())
            return False
        finally:
            self._is_writing = False
        self._note_answer()
        metrics.upserts_total.labels("written").inc(written)
        metrics.upserts_total.labels("stale").inc(len(batch.rows) - written)
        return True

    def note_poll(self) -> None:
        """Hear that Redis was written to otherwise: where no batch is tried any more, none is refused."""
        if not self._is_writing:
            self._note_answer()

    def _timed_write(self, batch: EncodedBatch) -> tuple[int, float]:
        return self._live_models.write(batch.rows, batch.forgotten), time.monotonic()

    def _on_redis_error(self, state: tenacity.RetryCallState) -> None:
        self._note_error(state.outcome.exception() if state.outcome else None)
        metrics.upserts_total.labels("retried").inc()

    def _note_error(self, error: BaseException | None) -> None:
        if not self.redis_error:
            self.redis_error_since = time.monotonic()
            logger.warning("Redis refuses vectors (%s); they wait, and nothing is committed meanwhile", error)
            metrics.redis_refuses.set(1)
        self.redis_error = str(error)

    def _note_answer(self) -> None:
        if self.redis_error:
            refused_s = time.monotonic() - self.redis_error_since
            logger.info("Redis takes vectors again, after %.1f s", refused_s)
            metrics.redis_refuses.set(0)
        self.redis_error = ""
