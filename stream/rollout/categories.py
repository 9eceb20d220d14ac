"""What a cold-start user gets at each category, written with every live model."""

import logging
import time

from stream.encoding.live_models import LiveModels
from stream.rollout.backfill import Backfiller
from stream.store.registry_state import LiveModel

logger = logging.getLogger(__name__)


class CategoryWriter:
    """Writes the categories of models that are live, once each; used from the event loop alone."""

    def __init__(self, live: LiveModels, backfiller: Backfiller) -> None:
        self._live = live
        self._backfiller = backfiller
        self._written: set[LiveModel] = set()
        self._losses = live.store.losses

    def has(self, model: LiveModel) -> bool:
        """Return whether all categories of a model are written."""
        return model in self._written

    async def write(self) -> None:
        """Write what is not written, or was lost. Raises redis.RedisError, and TimeoutError without Redis."""
        store = self._live.store
        if store.losses != self._losses:
            self._written.clear()
            self._losses = store.losses
        live = store.models.live if store.models else []
        self._written &= set(live)
        for model in live:
            if model in self._written or model.version not in self._live.loaded:
                continue
            started, categories = time.monotonic(), self._live.categories(model.version)
            await self._backfiller.write_categories(model.version, categories)
            if store.losses != self._losses:
                return  # perhaps of these, too
            self._written.add(model)
            took_s = time.monotonic() - started
            logger.info("%d categories of model %s written in %.1f s", len(categories), model.version, took_s)
