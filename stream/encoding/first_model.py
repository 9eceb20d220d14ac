"""The model that a worker starts with: what is published, or where that cannot be used, what serves."""

import logging

import redis

from models.artifact.artifact import Artifact
from models.errors import ArtifactError, UnreachableError
from stream.encoding.live_models import ArtifactSource
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.model_registry import ModelRegistry

logger = logging.getLogger(__name__)


def first_model(settings: Settings, source: ArtifactSource) -> Artifact:
    """Return the model to start with.

    A published one that is damaged or foreign is refused by workers that run; one that starts does the same,
    as long as it can serve on. Raises ArtifactError where no other serves, UnreachableError where a bucket
    does not answer.
    """
    try:
        return source.load(source.wanted().version)
    except ArtifactError as error:
        serving = _serving(settings)
        try:
            found = source.load(serving) if serving else None
        except (ArtifactError, UnreachableError):
            found = None
        if found is None:
            raise
        logger.error(
            "what is published cannot be used, and model %s, which serves, stays: %s", serving, error
        )
        return found


def _serving(settings: Settings) -> str:
    """Return the version that serves; empty where Redis knows of none, or does not answer."""
    try:
        with redis_client(settings.redis) as client:
            models = ModelRegistry(client, settings.key_prefix).read()
    except (UnreachableError, redis.RedisError):
        return ""
    return models.serving.version if models else ""
