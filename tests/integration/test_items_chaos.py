"""A learner of items that is killed again and again learns what one that never was does, bit by bit.

pytest tests/integration/test_items_chaos.py                                        the short form
pytest tests/integration/test_items_chaos.py --items-kills 20 --chaos-seed 7 -s     as long as you like
"""

import dataclasses
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from confluent_kafka import Producer

from local.items import ItemsProcess
from local.worker import worker_environment
from models.artifact.artifact import Artifact
from stream.items.following import Following, ItemsSettings
from stream.items.snapshots import Snapshot, Snapshots, snapshots_topic
from stream.kafka.topics import end_offsets, ensure_topic
from stream.settings import Settings
from stream.store.lease import lease_key
from stream.store.model_registry import ModelRegistry
from tests.integration.chaos import Traffic
from tests.integration.learning import publish_live_model

pytestmark = pytest.mark.integration

PARTITIONS, USERS = 3, 300
#: Items that the model knows; and those that the stream brings, some more with each event.
KNOWN, BROUGHT = 200, 100
START_MS = 1_700_000_000_000
#: Records come one partition at a time, and say that they are from so long ahead (ms): whoever reads them at
#: any time then has to wait until the other partitions show the same, however slow the machine is. Without
#: it, what a broker gets later than HOLD_MS would be learned when it comes.
RUN_EVENTS, AHEAD_MS = 20, 5_000
#: A killed learner is started again at once; by then it has learned something new (s).
LEARNS_AGAIN_S = 120.0


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return publish_live_model(tmp_path / "store", KNOWN)


@pytest.fixture
def live_settings(settings: Settings, model: Artifact) -> Settings:
    ensure_topic(settings.kafka, settings.topic, PARTITIONS)
    return dataclasses.replace(settings, artifact=model.path.parent)


@pytest.fixture
def killed(live_settings: Settings, tmp_path: Path) -> Iterator[ItemsProcess]:
    """Give a learner that nearly always writes a snapshot, not yet started."""
    running = ItemsProcess(tmp_path / "items", worker_environment(live_settings), snapshot_s=0.2)
    yield running
    running.kill()


def traffic(settings: Settings, seed: int) -> Traffic:
    """Return events of users on known and new items: some late, some twice, some no events; and forgets."""
    producer = Producer({**settings.kafka.librdkafka(), "acks": "all", "enable.idempotence": True})
    chance = random.Random(seed)
    sent: list[tuple[str, bytes]] = []

    def event(number: int) -> tuple[str, bytes]:
        user = f"u{int(USERS * chance.random() ** 2)}"
        late_ms = chance.choice((0, 0, 0, 0, 20_000, 5_000_000))
        values = {
            "event_id": f"e{number}",
            "user_id": user,
            "item_id": f"i{chance.randrange(KNOWN + BROUGHT + number // 20)}",
            "behavior_type": 1 + number % 4,
            "item_category": f"c{number % 3}",
            "time": START_MS + 500 * number - late_ms,
        }
        return user, json.dumps(values).encode()

    def publish(number: int) -> None:
        if number % RUN_EVENTS == 0:
            producer.flush(60)
        partition = number // RUN_EVENTS * 7 % PARTITIONS
        stamp = int(time.time() * 1000) + AHEAD_MS
        kind = chance.random()
        if kind < 0.002:
            key, header = (f"u{chance.randrange(USERS)}", "twintide-forget")
            if kind < 0.001:
                key, header = f"i{chance.randrange(KNOWN + BROUGHT)}", "twintide-forget-item"
            producer.produce(
                settings.topic, None, key.encode(), partition, timestamp=stamp, headers=[(header, b"1")]
            )
            return
        if kind < 0.004:
            user, value = "u1", b"not an event"
        elif kind < 0.02 and sent:
            user, value = chance.choice(sent[-500:])
        else:
            user, value = event(number)
            sent.append((user, value))
        producer.produce(settings.topic, value, user.encode(), partition, timestamp=stamp)

    return Traffic(publish, lambda: producer.flush(60))


def kill_again_and_again(
    killed: ItemsProcess, kills: int, seed: int, settings: Settings, client: "redis.Redis", model: Artifact
) -> int:
    """Kill a learner at random moments, of its start too; return how often it had learned something anew."""
    chance, learned_again = random.Random(seed), 0
    for number in range(kills):
        killed.start(wait=False)
        started_at = time.monotonic()
        if number % 4 == 3:
            time.sleep(chance.uniform(0.0, 8.0))  # maybe while it takes up its last snapshot
        else:
            name = f"twintide_items_events_total{{learned}}{{{model.version}}}"
            while not killed.metrics().get(name):
                assert time.monotonic() - started_at < LEARNS_AGAIN_S, killed.process.log.read_text()[-2_000:]
                time.sleep(0.02)
            learned_again += 1
            time.sleep(chance.uniform(0.0, 1.5))
        killed.kill()
        # It would run out in half a minute. Redis may forget it at any time, as when it is failed over.
        client.delete(lease_key(settings.key_prefix, "item-learner"))
        seconds = time.monotonic() - started_at
        print(f"kill {number + 1} of {kills}, {seconds:.1f} s after its start", flush=True)
    return learned_again


def snapshot_of(settings: Settings, model: Artifact) -> Snapshot:
    topic = snapshots_topic(settings.app_id, model.version)
    found = Snapshots(settings.kafka, topic, settings.replication_factor).load()
    assert found is not None
    return found


def never_killed(settings: Settings, model: Artifact, client: "redis.Redis") -> Snapshot:
    """Return the snapshot of another learner, which reads the whole topic in one go."""
    other = dataclasses.replace(
        settings, app_id=f"{settings.app_id}-other", key_prefix=f"{settings.key_prefix}other:"
    )
    following = Following(other, ItemsSettings(snapshot_s=1e9), model, client)
    deadline = time.monotonic() + 120
    while following.offsets != end_offsets(settings.kafka, settings.topic):
        assert time.monotonic() < deadline
        following.step(0.1)
    following.close()
    return snapshot_of(other, model)


def differences(one: Snapshot, other: Snapshot) -> list[str]:
    """Return which arrays differ in any bit; what is a set stands in no order."""
    assert one.arrays.keys() == other.arrays.keys()
    found = []
    for name, array in one.arrays.items():
        ours, theirs = (
            np.sort(each) if name.startswith("pairs/") else each for each in (array, other.arrays[name])
        )
        if (ours.dtype, ours.shape, ours.tobytes()) != (theirs.dtype, theirs.shape, theirs.tobytes()):
            found.append(name)
    return found


def test_learner_that_is_killed_at_random_points_has_the_snapshot_of_one_that_never_was(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    killed: ItemsProcess,
    until: Callable[..., None],
    pytestconfig: pytest.Config,
) -> None:
    kills, seed = pytestconfig.getoption("--items-kills"), pytestconfig.getoption("--chaos-seed")
    ModelRegistry(redis_client, live_settings.key_prefix).serve(model.version, 1)
    events = traffic(live_settings, seed)
    events.start()
    learned_again = kill_again_and_again(killed, kills, seed, live_settings, redis_client, model)
    published = events.finish()
    killed.start()
    until(lambda: killed.metrics().get(f"twintide_items_lag_events{{{model.version}}}") == 0)
    killed.stop()  # asked to end, it writes a last snapshot
    survivor = snapshot_of(live_settings, model)
    unharmed = never_killed(live_settings, model, redis_client)
    print(
        f"{published} records, {kills} kills, {learned_again} after something new; snapshot {survivor.number}"
    )
    assert learned_again >= kills * 3 // 4
    assert survivor.number > kills  # there were some between the kills
    assert survivor.positions == unharmed.positions
    assert differences(survivor, unharmed) == []
    assert unharmed.arrays["stream/numbers"][0] > published * 0.9
