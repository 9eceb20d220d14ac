"""Cleaning up after a change of models: what is not live any more goes, a portion of the users at a time."""

import asyncio
import itertools
import logging

from stream.store.vector_store import Store

logger = logging.getLogger(__name__)

#: Users of one step.
USERS_AT_ONCE = 500


async def clean_up(store: Store, users_per_s: float) -> None:
    """Put the serving model into the plain fields of all users, delete models that are not live any more.

    Nothing happens where that is done since the last change, or a model is staged: the switch will change it
    again. Another change while it runs ends it, and the next call begins anew. Raises redis.RedisError.
    """
    models = store.models
    if models is None or models.staged:
        return
    if (await asyncio.to_thread(store.registry.progress)).cleaned_up == models.generation:
        return
    keys = store.stored_keys()
    changed = 0
    while portion := await asyncio.to_thread(lambda: list(itertools.islice(keys, USERS_AT_ONCE))):
        changed += await asyncio.to_thread(store.clean_up, portion)
        if store.models is None or store.models.generation != models.generation:
            return
        await asyncio.sleep(len(portion) / users_per_s)
    await asyncio.to_thread(store.registry.cleaned_up, models.generation)
    if changed:
        logger.info("cleaned up after a change of models: %d users", changed)
