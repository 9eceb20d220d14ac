"""Steps for ever: one leads, others wait; what fails is said, counted, and tried again."""

import logging
from collections.abc import Callable
from threading import Event

import redis

from models.errors import TwintideError, UnreachableError
from offline.continual import metrics
from offline.continual.step import Done
from stream.store.lease import Lease, LeaseLostError

logger = logging.getLogger(__name__)

#: After how long it is tried again after a failure, at the latest (s).
RETRY_S = 60.0
#: After how long Redis is asked again who leads, where it did not answer (s).
ASK_AGAIN_S = 10.0


def once(step: Callable[[], Done], lease: Lease) -> Done:
    """Wait for the lease, make one step and give the lease back. Raises what the step raises."""
    try:
        lease.wait()
    except redis.RedisError as error:
        raise UnreachableError(f"Redis does not say who leads ({error}): see REDIS_URL") from error
    metrics.leads.set(1)
    try:
        return _counted(step)
    finally:
        metrics.leads.set(0)
        lease.give_up()


def serve(step: Callable[[], Done], lease: Lease, every_s: float, stop: Event) -> None:
    """Make a step every `every_s` seconds, until `stop` is set.

    It leads until it stops, or loses the lease; then it waits for it once more.
    """
    while not stop.is_set():
        try:
            if lease.wait(stop.is_set):
                _lead(step, lease, every_s, stop)
        except redis.RedisError as error:
            logger.warning("Redis does not say who leads; it is asked again in %g s: %s", ASK_AGAIN_S, error)
            stop.wait(ASK_AGAIN_S)


def _lead(step: Callable[[], Done], lease: Lease, every_s: float, stop: Event) -> None:
    logger.info("this trainer leads")
    metrics.leads.set(1)
    try:
        while not stop.is_set():
            pause_s = every_s
            try:
                lease.require()
                logger.info("%s", _counted(step).line)
            except LeaseLostError as error:
                logger.warning("%s", error)
                return
            except (TwintideError, redis.RedisError, OSError) as error:
                pause_s = min(every_s, RETRY_S)
                logger.error("a step failed, the next is in %g s: %s", pause_s, error)
            stop.wait(pause_s)
    finally:
        metrics.leads.set(0)
        lease.give_up()


def _counted(step: Callable[[], Done]) -> Done:
    try:
        done = step()
    except Exception:
        metrics.steps_total.labels("failed").inc()
        raise
    metrics.steps_total.labels(done.result).inc()
    return done
