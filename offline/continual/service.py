"""Steps for ever: one leads, others wait; what fails is said, counted, and tried again."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

import redis

from models.errors import TwintideError, UnreachableError
from offline.continual import metrics
from offline.continual.pause import Pause
from offline.continual.step import Done
from stream.store.lease import Lease, LeaseLostError
from stream.worker.health import Health

logger = logging.getLogger(__name__)

#: After how long it is tried again after a failure, at the latest (s).
RETRY_S = 60.0
#: After how long Redis is asked again who leads, where it did not answer (s).
ASK_AGAIN_S = 10.0


#: What /health says of a trainer that does not lead.
WAITING = Health("starting", "it waits for the lease")


@dataclass(slots=True)
class Status:
    """What /health says of a trainer; written by its loop, read by the thread that answers."""

    health: Health = WAITING


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


def serve(step: Callable[[], Done], lease: Lease, pause: Pause, stop: Event, status: Status) -> None:
    """Make steps with pauses between them, until `stop` is set; `status` says how that goes.

    It leads until it stops, or loses the lease; then it waits for it once more.
    """
    while not stop.is_set():
        try:
            if lease.wait(stop.is_set):
                _lead(step, lease, pause, stop, status)
            status.health = WAITING
        except redis.RedisError as error:
            status.health = Health("stuck", f"Redis does not say who leads: {error}")
            logger.warning("Redis does not say who leads; it is asked again in %g s: %s", ASK_AGAIN_S, error)
            stop.wait(ASK_AGAIN_S)


def _lead(step: Callable[[], Done], lease: Lease, pause: Pause, stop: Event, status: Status) -> None:
    logger.info("this trainer leads")
    metrics.leads.set(1)
    status.health = Health("ready")
    try:
        while not stop.is_set():
            before, at_most_s = pause.begin(), math.inf
            try:
                lease.require()
                logger.info("%s", _counted(step).line)
                status.health = Health("ready")
            except LeaseLostError as error:
                logger.warning("%s", error)
                return
            except (TwintideError, redis.RedisError, OSError) as error:
                at_most_s = RETRY_S
                status.health = Health("stuck", f"a step failed: {error}")
                logger.error("a step failed; the next is in %g s at the latest: %s", RETRY_S, error)
            pause.wait(before, stop, at_most_s)
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
