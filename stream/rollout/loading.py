"""Loading a model beside those that serve: in a thread, and refused where it cannot be used."""

import asyncio
import logging
import time
from collections.abc import Callable

from models.errors import TwintideError, UnreachableError
from stream import metrics
from stream.encoding.encoder import Encoder
from stream.encoding.live_models import ArtifactSource, LiveModels

logger = logging.getLogger(__name__)

#: Pause before a model that could not be fetched is tried again (s).
RETRY_AFTER_S = 5.0
#: The most that is told of why a model is refused: libraries say pages.
REASON_CHARACTERS = 500


class ModelLoader:
    """Loads one model at a time; used from the event loop alone."""

    def __init__(
        self, source: ArtifactSource, live: LiveModels, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._live = live
        self._loading: tuple[str, asyncio.Task[Encoder]] | None = None
        #: Version -> number of its publication that was refused.
        self._refused: dict[str, int] = {}
        self._clock = clock
        self._not_before = 0.0

    def start(self, version: str) -> None:
        """Begin to load a version, unless one is being loaded, or could not be fetched a moment ago."""
        if self._loading is None and self._clock() >= self._not_before:
            logger.info("loading model %s", version)
            self._loading = version, asyncio.create_task(asyncio.to_thread(self._load, version))

    def refused(self, publication: int) -> frozenset[str]:
        """Return the versions that cannot be used, as far as they were tried since this publication."""
        return frozenset(version for version, tried in self._refused.items() if tried == publication)

    async def take_loaded(self, publication: int) -> str:
        """Take up the model that has been loaded meanwhile; return its version, empty where there is none.

        One that cannot be used is refused until something else is published, also where that is for want of a
        GPU, or of room on it; one that a bucket or a disk does not give at the moment is tried again.
        """
        if self._loading is None or not self._loading[1].done():
            return ""
        (version, task), self._loading = self._loading, None
        try:
            encoder = task.result()
        except (UnreachableError, OSError) as error:
            logger.warning("model %s cannot be fetched, and what serves stays: %s", version, error)
            metrics.model_changes_total.labels("not_fetched").inc()
            self._not_before = self._clock() + RETRY_AFTER_S
            return ""
        except (TwintideError, RuntimeError) as error:
            logger.error("model %s is refused, and what serves stays: %s", version, error)
            metrics.model_changes_total.labels("refused").inc()
            self._refused[version] = publication
            reason = " ".join(str(error).split())[:REASON_CHARACTERS]
            await asyncio.to_thread(self._live.store.registry.refuse, version, reason)
            return ""
        self._live.add(encoder)
        return version

    def _load(self, version: str) -> Encoder:
        return self._live.make(self._source.load(version))
