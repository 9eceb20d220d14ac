"""One at a time of what must not run twice: a lease in Redis, renewed by a thread while its owner lives."""

import logging
import time
from collections.abc import Callable
from threading import Event, Thread

import redis
from redis.exceptions import LockError

from models.errors import TwintideError

logger = logging.getLogger(__name__)

#: How long a lease lasts that is not renewed, and how often it is (s).
LEASE_S, RENEWALS = 30.0, 3


class LeaseLostError(TwintideError):
    """Another one may lead by now."""


def lease_key(key_prefix: str, who: str = "trainer") -> str:
    """Return the key whose owner leads, of all trainers or item learners for the users of this prefix."""
    return f"twintide:{who}:{key_prefix}"


class Lease:
    """Held by one process at a time; the key's value is a token that nobody else has (redis-py's Lock).

    Redis may forget it (a failover), so it saves work and does not by itself keep two from publishing. Of
    trainers, the store of artifacts does, which is told what is to be replaced; of item learners, Kafka,
    which takes snapshots of one alone.
    """

    def __init__(
        self, client: "redis.Redis", key_prefix: str, lease_s: float = LEASE_S, who: str = "trainer"
    ) -> None:
        """Ask for the lease of `who`: trainer, or item-learner."""
        self._who = who.replace("-", " ")
        self._lock = client.lock(lease_key(key_prefix, who), timeout=lease_s, thread_local=False)
        self._every_s = lease_s / RENEWALS
        self._ended = Event()
        self._renewal: Thread | None = None

    def take(self) -> bool:
        """Take it where nobody has it, and renew it from then on; return whether it was free."""
        if not self._lock.acquire(blocking=False):
            return False
        self._ended = Event()
        self._renewal = Thread(target=self._renew, args=[self._ended], name="lease", daemon=True)
        self._renewal.start()
        return True

    def wait(self, is_over: Callable[[], bool] = lambda: False, poll_s: float = 1.0) -> bool:
        """Return True when it is taken, False when `is_over`; say once that another one leads."""
        said = False
        while not is_over():
            if self.take():
                return True
            if not said:
                logger.info("another %s leads; this one waits until it ends", self._who)
                said = True
            time.sleep(poll_s)
        return False

    def require(self) -> None:
        """Renew it; LeaseLostError where it is not this process' any more, or Redis does not say."""
        try:
            self._lock.reacquire()
        except (LockError, redis.RedisError) as error:
            raise LeaseLostError(
                f"this {self._who} does not lead any more ({error}): it publishes nothing, and begins again"
            ) from error

    def give_up(self) -> None:
        """Leave it to another trainer at once, where it is still held and Redis answers."""
        self._ended.set()
        if self._renewal:
            self._renewal.join()
        try:
            self._lock.release()
        except (LockError, redis.RedisError) as error:
            logger.warning("the %s's lease was not given back (%s): it runs out by itself", self._who, error)

    def _renew(self, ended: Event) -> None:
        while not ended.wait(self._every_s):
            try:
                self._lock.reacquire()
            except LockError as error:
                logger.warning("this %s does not lead any more: %s", self._who, error)
                return
            except redis.RedisError as error:
                logger.warning("the %s's lease could not be renewed, it is tried again: %s", self._who, error)
