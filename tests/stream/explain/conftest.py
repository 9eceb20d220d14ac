"""A page to look at: a worker's parts with some users, a real Redis with their vectors, and no Kafka."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import torch

from local.ports import free_port
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from models.windows.window import Window, WindowSettings, window_to_bytes
from stream.encoding.encoder import Encoder
from stream.encoding.live_models import LiveModels
from stream.explain.page import AT, ExplainPage
from stream.kafka.partitioner import partition_of
from stream.settings import Settings
from stream.store.clients import redis_client as connect
from stream.store.connection import RedisConnection
from stream.store.vector_store import Store, StoreSettings
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition
from stream.worker import health

#: Partitions of the topic, and those that the worker of these tests holds; the others are another worker's.
PARTITIONS, HELD = 4, (0, 1, 2)
ELSEWHERE = "http://other-host:9109"
DAY_MS = 86_400_000
#: Ids that were made to break a page.
ODD_USERS = ("a/b?c=d&e#f%20", "ü€😀\u202e", "<img src=x onerror=alert(1)>", " ", "x" * 3_000, "a\x00\r\nb")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Give an artifact with random weights, all towers in use."""
    torch.manual_seed(0)
    vocabulary = Vocabulary([f"item {n}" for n in range(40)], [2 + n % 3 for n in range(40)], list("abc"))
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return artifacts.save(tmp_path_factory.mktemp("explain"), towers, vocabulary, settings, {}, {})


def window_of(user_id: str, events: int = 40) -> bytes:
    """Return a window: four sessions, on days of their own, some items that the model does not know."""
    numbers = range(events)
    return window_to_bytes(
        Window(
            "topic",
            partition_of(user_id.encode(), PARTITIONS),
            offset=100,
            applied=events,
            times_ms=[1_418_000_000_000 + n // 10 * DAY_MS + n * 60_000 for n in numbers],
            behaviours=[1 + n % 4 for n in numbers],
            item_ids=["<b>unknown</b>" if n % 9 == 8 else f"item {n % 40}" for n in numbers],
            categories=[str("abc"[n % 3]) for n in numbers],
            event_hashes=list(numbers),
        )
    )


class App:
    """As much of a worker's app as the page asks."""

    address = "http://this-host:9108"
    behaviour_topic = "user-behavior"
    window_partitions = PARTITIONS
    rebalancing = False
    source = SimpleNamespace(waits_for="")

    def __init__(self, settings: Settings, live: LiveModels | None, stored: dict[str, bytes]) -> None:
        values = {user_id.encode(): value for user_id, value in stored.items()}

        def load(keys: Sequence[bytes]) -> list[bytes | None]:
            return [values.get(key) for key in keys]

        held = {number: Partition("topic", number, WindowSettings(), load) for number in HELD}
        self.settings = settings
        self.assignments = SimpleNamespace(current=Assignment(1, held))
        recovery = SimpleNamespace(in_recovery=False, completed=SimpleNamespace(is_set=lambda: True))
        self.tables = SimpleNamespace(_recovery=recovery)
        self.parts = SimpleNamespace(
            assignments=self.assignments,
            commits=SimpleNamespace(uncommitted_s=lambda: 0.0),
            topic_watch=SimpleNamespace(complaint="", not_allowed=""),
            refresher=None,
            live_models=live,
        )

    def owners(self) -> dict[int, str]:
        """Return who has which partition."""
        return {number: self.address if number in HELD else ELSEWHERE for number in range(PARTITIONS)}

    def assigned_partitions(self) -> list[SimpleNamespace]:
        """Return the partitions held."""
        return [SimpleNamespace(topic=self.behaviour_topic, partition=number) for number in HELD]


@pytest.fixture
def live_models(
    redis_client: redis.Redis, redis_connection: RedisConnection, artifact: Artifact
) -> LiveModels:
    """Give the live models of a worker whose model serves."""
    store = Store(connect(redis_connection), StoreSettings(key_prefix="explain:"))
    live = LiveModels(store, "topic", WindowSettings(), Encoder)
    live.add(Encoder(artifact))
    store.registry.serve(artifact.version, 1)
    store.poll()
    live.write_cold_start(artifact.version)
    return live


@pytest.fixture
def app(redis_connection: RedisConnection, live_models: LiveModels, tmp_path: Path) -> App:
    """Give a worker with windows and vectors of `user 0` to `user 9`, and of ODD_USERS."""
    users = [*(f"user {number}" for number in range(10)), *ODD_USERS]
    stored = {user_id: window_of(user_id) for user_id in users}
    live_models.write(live_models.rows(list(stored.items())))
    settings = Settings(redis=redis_connection, key_prefix="explain:", data_dir=tmp_path)
    return App(settings, live_models, stored)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give an event loop that runs in a thread, as a worker's does in its own."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join()
    running.close()


@pytest.fixture
def page(app: Any, loop: asyncio.AbstractEventLoop) -> ExplainPage:
    """Give the page of that worker."""
    found = ExplainPage(app)
    found.attach(loop)
    return found


@pytest.fixture
def url(app: Any, page: ExplainPage) -> str:
    """Give the page's address on a real web server."""
    port = health.serve("127.0.0.1", free_port(), lambda: health.check(app), pages={AT: page})
    return f"http://127.0.0.1:{port}{AT}/"


@pytest.fixture
def guarded_url(app: Any, loop: asyncio.AbstractEventLoop) -> str:
    """Give the same behind the token `0123456789abcdef`."""
    app.settings = replace(app.settings, explain_token="0123456789abcdef")
    page = ExplainPage(app)
    page.attach(loop)
    port = health.serve("127.0.0.1", free_port(), lambda: health.check(app), pages={AT: page})
    return f"http://127.0.0.1:{port}{AT}/"
