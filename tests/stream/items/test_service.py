"""An item learner's main loop: what /health says of it."""

import pytest
import redis

from stream.items.following import ItemsSettings
from stream.items.service import Service
from stream.settings import Settings
from stream.store.model_registry import ModelRegistry
from stream.worker.health import Health

pytestmark = pytest.mark.integration


def test_learner_that_begins_to_lead_is_not_called_stuck_for_what_was_before(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    ModelRegistry(redis_client, settings.key_prefix).serve("0123456789ab", 1)
    service = Service(settings, ItemsSettings(), redis_client)
    monkeypatch.setattr(service, "_follow", lambda version: None)
    assert service._lease.take()
    service._poll()
    assert service.status.health() == Health("ready")
    service._lease.give_up()
