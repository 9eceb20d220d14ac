"""The item learner's main loop: it leads or waits, and has a learner for each model that is live."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

import redis

from models.errors import ArtifactError, TwintideError, UnreachableError
from stream.encoding.live_models import ArtifactSource
from stream.items import metrics
from stream.items.following import Following, ItemsSettings
from stream.items.snapshots import topics_of_states
from stream.kafka.topics import delete_topic, partition_counts
from stream.settings import Settings
from stream.store.lease import Lease, LeaseLostError
from stream.store.model_registry import ModelRegistry
from stream.worker.health import STUCK_AFTER_S, Health

logger = logging.getLogger(__name__)

#: How often it is asked which models are live, and whether this learner still leads; and which partitions the
#: topic has (s).
POLL_S, POLL_TOPIC_EVERY_S = 1.0, 15.0
#: Pause before what failed is tried again (s).
RETRY_S = 5.0
#: How long a step waits for events (s), where there are several models each its part.
WAIT_S = 0.1
#: What /health says of one that does not lead: status and reason.
WAITING = "starting", "it waits for the lease"


@dataclass(slots=True)
class Status:
    """What /health says of the loop; written by the loop, read by the thread that answers."""

    state: str = WAITING[0]
    reason: str = WAITING[1]
    moved_at: float = 0.0

    def health(self) -> Health:
        """Return what /health answers."""
        still_s = time.monotonic() - self.moved_at
        if self.state == "ready" and still_s > STUCK_AFTER_S:
            return Health("stuck", f"nothing has happened for {still_s:.0f} s")
        return Health(self.state, self.reason)


class Service:
    """Follows what is live, one learner for each model."""

    def __init__(
        self,
        settings: Settings,
        items: ItemsSettings,
        client: "redis.Redis",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._items, self._client, self._clock = settings, items, client, clock
        self._registry = ModelRegistry(client, settings.key_prefix)
        self._lease = Lease(client, settings.key_prefix, who="item-learner")
        self._artifacts = ArtifactSource(settings.artifact)
        self.status = Status()
        self._following: dict[str, Following] = {}
        #: Version -> when it is tried again; never where its items do not go on learning.
        self._not_before: dict[str, float] = {}
        self._poll_at = self._poll_topic_at = 0.0

    def serve(self, stop: Event) -> None:
        """Lead whenever nobody else does, until `stop` is set."""
        while not stop.is_set():
            try:
                if self._lease.wait(stop.is_set):
                    self._lead(stop)
            except redis.RedisError as error:
                self._pause(stop, f"Redis does not say who leads: {error}")

    def _lead(self, stop: Event) -> None:
        logger.info("this item learner leads")
        metrics.leads.set(1)
        try:
            while not stop.is_set():
                self._poll()
                self._step(stop)
            self._close()
            self._following.clear()
        except LeaseLostError as error:
            logger.warning("%s", error)
            self.status.state, self.status.reason = WAITING
        except (TwintideError, redis.RedisError) as error:
            self._pause(stop, str(error))
        finally:
            metrics.leads.set(0)
            for each in self._following.values():
                each.abandon()
            self._following.clear()
            self._poll_at = 0.0
            self._lease.give_up()

    def _step(self, stop: Event) -> None:
        learned = [each.step(WAIT_S / len(self._following)) for each in self._following.values()]
        if not learned:
            stop.wait(WAIT_S)
        self.status.moved_at = time.monotonic()

    def _pause(self, stop: Event, reason: str) -> None:
        logger.error("it is tried again in %g s: %s", RETRY_S, reason)
        self.status.state, self.status.reason = "stuck", reason
        stop.wait(RETRY_S)

    def _close(self) -> None:
        """Keep the states: whoever leads next goes on there."""
        for each in self._following.values():
            each.close()

    # -- which models

    def _poll(self) -> None:
        """Follow the models that are live. Raises LeaseLostError."""
        if self._clock() < self._poll_at:
            return
        self._poll_at = self._clock() + POLL_S
        try:
            models = self._registry.read()
        except redis.RedisError as error:
            logger.warning("which models are live is not known at the moment (%s)", error)
            return
        self._lease.require()
        self._close_narrow()
        live = [model.version for model in models.live] if models else []
        for version in live:
            self._follow(version)
        for version in set(self._following) - set(live) if models else ():
            self._drop(version)
        self.status.moved_at = time.monotonic()  # loading a model takes a while
        self._show(live)

    def _close_narrow(self) -> None:
        """Keep the states of those who do not read all partitions any more: `_follow` goes on there."""
        if self._clock() < self._poll_topic_at:
            return
        self._poll_topic_at = self._clock() + POLL_TOPIC_EVERY_S
        for version, each in [*self._following.items()]:
            if each.is_narrow():
                logger.info(
                    "model %s: the topic has got partitions, which its learner reads now, too", version
                )
                each.close()
                del self._following[version]

    def _follow(self, version: str) -> None:
        if version in self._following or self._clock() < self._not_before.get(version, 0.0):
            return
        try:
            artifact = self._artifacts.load(version)
        except (ArtifactError, UnreachableError) as error:
            logger.warning("model %s cannot be loaded, it is tried again: %s", version, error)
            self._not_before[version] = self._clock() + RETRY_S
            return
        if not (artifact.settings.live_items.is_on or self._items.always):
            logger.info("model %s: live items do not help on its own log, so it has none (--always)", version)
            self._not_before[version] = float("inf")
            return
        try:
            self._following[version] = Following(self._settings, self._items, artifact, self._client)
        except ArtifactError as error:
            logger.error("model %s has no live items: %s", version, error)
            self._not_before[version] = float("inf")
            return
        self._drop_topics()

    def _drop(self, version: str) -> None:
        logger.info("model %s is not live any more: its items are given up", version)
        self._following.pop(version).drop()
        self._drop_topics()

    def _drop_topics(self) -> None:
        """Delete the states of models that are not live any more."""
        models = self._registry.read()
        live = {model.version for model in models.live} if models else set()
        topics = topics_of_states(self._settings.app_id, partition_counts(self._settings.kafka))
        for version, topic in topics.items():
            if models and version not in live:
                delete_topic(self._settings.kafka, topic)

    def _show(self, live: list[str]) -> None:
        status = self.status
        if not live:
            status.state, status.reason = "starting", "no model serves: start a worker"
            return
        stopped = [
            f"model {each.version}: {each.stopped}" for each in self._following.values() if each.stopped
        ]
        refused = [
            f"Redis refuses live items: {each.redis_error}"
            for each in self._following.values()
            if each.redis_error and self._clock() - each.redis_error_since > STUCK_AFTER_S
        ]
        status.reason = "; ".join([*stopped, *refused])
        status.state = "stuck" if status.reason else "ready"
