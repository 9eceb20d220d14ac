"""What is published, read once a second apart from all else: a bucket that is silent holds nothing up."""

import asyncio
import logging

from models.artifact.publications import Publication
from models.errors import ArtifactError, UnreachableError
from stream import metrics
from stream.encoding.live_models import ArtifactSource
from stream.rollout.state import POLL_EVERY_S

logger = logging.getLogger(__name__)


class PublicationWatch:
    """Knows what was published when it could be read last; used from the event loop alone."""

    def __init__(self, source: ArtifactSource) -> None:
        self._source = source
        #: None before it was read once.
        self.wanted: Publication | None = None
        #: Why it could not be read the last time, empty where it could.
        self._failure = ""

    @property
    def number(self) -> int:
        """Return the number of the publication, 0 where none is known."""
        return self.wanted.number if self.wanted else 0

    async def run(self) -> None:
        """Read for ever."""
        while True:
            await self.read()
            await asyncio.sleep(POLL_EVERY_S)

    async def read(self) -> None:
        """Read what is published; where that cannot be done, what was wanted stays wanted."""
        try:
            self.wanted = await asyncio.to_thread(self._source.wanted)
        except (ArtifactError, UnreachableError, OSError) as error:
            metrics.publication_failures_total.inc()
            if str(error) != self._failure:
                logger.warning("what is published cannot be read, and what serves stays: %s", error)
            self._failure = str(error)
        else:
            if self._failure:
                logger.info("what is published can be read again")
            self._failure = ""
