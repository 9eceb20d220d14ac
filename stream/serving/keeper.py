"""Keeps loaded what the API serves: the items of live models before they serve, and the newest ranker."""

import logging
import time
from collections.abc import Callable
from threading import Event

import redis

from models.errors import TwintideError
from models.threads import limit_threads
from stream.serving import metrics
from stream.serving.ranker import Ranker
from stream.serving.recommender import Recommender
from stream.store.keys import COLD_START_USER
from stream.store.model_registry import ModelRegistry
from stream.store.registry_state import Models

logger = logging.getLogger(__name__)

#: Seconds between two looks at which models are live, and at which ranker is published.
POLL_S, RANKER_POLL_S = 1.0, 5.0


class Keeper:
    """Its `run` is a thread's; `why_not` may be asked from any."""

    def __init__(
        self,
        registry: ModelRegistry,
        recommender: Recommender,
        ranker: Ranker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._recommender, self._ranker, self._clock = registry, recommender, ranker, clock
        self._ranker_at = clock() + RANKER_POLL_S
        #: What was said last, so that what goes on is said once.
        self._said = ""
        #: Why nobody should be asked to come here, empty where they may: it is warm.
        self.why_not = "it is not warm yet"

    def run(self, stop: Event) -> None:
        """Keep everything loaded until `stop` is set."""
        while not stop.is_set():
            self.step()
            stop.wait(POLL_S)

    def step(self) -> None:
        """Load what is new; once all is there that serves, warm up."""
        try:
            models = self._registry.read()
            if models is None:
                raise TwintideError(f"no model serves at {self._registry.key}: start a worker")
            self._recommender.prepare(models.serving.version)
            if self.why_not:
                self._warm_up()
        except (redis.RedisError, TwintideError, OSError) as error:
            self._complain(error)
            self.why_not = self.why_not and str(error)
        else:
            self._show(models)
            self._load_ahead(models)

    def _warm_up(self) -> None:
        """Rank for the cold-start user: nobody should wait the seconds that compiling takes."""
        (found,) = self._ranker.recommend(COLD_START_USER, 10).item_ids[:1] or [""]
        self._ranker.rank(COLD_START_USER, [found], explain=True)
        limit_threads(1)  # all libraries are loaded by now; on more cores, small products wait for each other
        self.why_not = ""
        logger.info("ready")

    def _show(self, models: Models) -> None:
        metrics.ready.set(1)
        metrics.show(metrics.model_info, models.serving.version)
        metrics.show(metrics.ranker_info, self._ranker.version)

    def _load_ahead(self, models: Models) -> None:
        """Load what will serve, or may again; what serves now goes on where that fails."""
        try:
            if models.second:
                self._recommender.prepare(models.second.version)
            if self._clock() >= self._ranker_at:
                self._ranker_at = self._clock() + RANKER_POLL_S
                if self._ranker.refresh():
                    logger.info("ranker %s scores from now on", self._ranker.version)
            self._said = ""
        except (TwintideError, OSError) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not isinstance(error, redis.RedisError):
            metrics.load_failures_total.inc()
        if str(error) != self._said:
            logger.warning("%s", error)
        self._said = str(error)
