"""Loading a model beside those that serve: in a thread, and refused where it cannot be used."""

import asyncio
import logging

from models.errors import ArtifactError
from stream import metrics
from stream.encoding.encoder import Encoder
from stream.encoding.live_models import ArtifactSource, LiveModels

logger = logging.getLogger(__name__)


class ModelLoader:
    """Loads one model at a time; used from the event loop alone."""

    def __init__(self, source: ArtifactSource, live: LiveModels) -> None:
        self._source = source
        self._live = live
        self._loading: tuple[str, asyncio.Task[Encoder]] | None = None
        #: Version -> number of its publication that was refused.
        self._refused: dict[str, int] = {}

    def start(self, version: str) -> None:
        """Begin to load a version, unless one is being loaded."""
        if self._loading is None:
            logger.info("loading model %s", version)
            self._loading = version, asyncio.create_task(asyncio.to_thread(self._load, version))

    def refused(self, publication: int) -> frozenset[str]:
        """Return the versions that cannot be used, as far as they were tried since this publication."""
        return frozenset(version for version, tried in self._refused.items() if tried == publication)

    async def take_loaded(self, publication: int) -> str:
        """Take up the model that has been loaded meanwhile; return its version, empty where there is none.

        One that cannot be used is refused until something else is published.
        """
        if self._loading is None or not self._loading[1].done():
            return ""
        (version, task), self._loading = self._loading, None
        try:
            encoder = task.result()
        except ArtifactError as error:
            logger.error("model %s is refused, and what serves stays: %s", version, error)
            metrics.model_changes_total.labels("refused").inc()
            self._refused[version] = publication
            await asyncio.to_thread(self._live.store.registry.refuse, version, str(error))
            return ""
        self._live.add(encoder)
        return version

    def _load(self, version: str) -> Encoder:
        return self._live.make(self._source.load(version))
