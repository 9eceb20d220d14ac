"""Events of a shop's own form and key on real Kafka: looked at, rekeyed, and applied by a worker."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import murmur2
from click.testing import CliRunner
from confluent_kafka import Producer

from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from stream import check, rekey
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import admin_client, end_offsets, ensure_topic, partition_counts
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

FORMAT = """
user = "{shop}:{payload.user.id}"
item = "payload.item"
category = ""
geohash = "payload.place"
behaviour = "action"
time = "payload.at"
event_id = "id"
[behaviours]
look = "view"
take = "buy"
scroll = "skip"
"""
START_S, USERS, PARTITIONS = 1_417_000_000, 40, 3


@pytest.fixture
def shop_format(tmp_path: Path) -> Path:
    """Give a format of events like those below."""
    (tmp_path / "shop.toml").write_text(FORMAT)
    return tmp_path / "shop.toml"


def event(number: int, **fields: Any) -> dict[str, Any]:
    payload = {"user": {"id": number * 7 % USERS}, "item": f"i{number % 50}", "at": START_S + number * 60}
    action = ("look", "take", "scroll")[number % 3]
    return {
        "id": f"e{number}",
        "shop": "eu",
        "action": action,
        "payload": payload | {"place": "9q8"},
        **fields,
    }


def send(settings: Settings, topic: str, values: Sequence[tuple[bytes | None, Any]]) -> None:
    """Send records with these keys, and values of JSON or bytes, and the event's time."""
    producer = Producer({**settings.kafka.librdkafka(), "partitioner": "murmur2_random", "acks": "all"})
    for key, value in values:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        time_ms = value["payload"].get("at", 1) * 1000 if isinstance(value, dict) else 0
        producer.produce(topic, content, key, timestamp=time_ms)
        producer.poll(0)
    assert producer.flush(30) == 0


def by_session(first: int, count: int) -> list[tuple[bytes | None, Any]]:
    return [(f"session {number % 90}".encode(), event(number)) for number in range(first, first + count)]


@pytest.fixture
def clicks(settings: Settings) -> str:
    """Give an empty topic that is not the workers'."""
    name = f"{settings.topic}-clicks"
    ensure_topic(settings.kafka, name, PARTITIONS)
    return name


def invoke(command: Any, settings: Settings, *words: object, code: int = 0) -> str:
    """Return what a command prints to stdout, or the one line with which it fails."""
    done = CliRunner().invoke(command, [*map(str, words)], env=worker_environment(settings))
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.stdout if not code else done.stdout + done.stderr


def test_check_shows_what_would_become_of_a_topic(settings: Settings, clicks: str, shop_format: Path) -> None:
    def groups() -> set[str]:
        found = admin_client(settings.kafka).list_consumer_groups().result(10)
        return {each.group_id for each in found.valid}

    before, topics = groups(), set(partition_counts(settings.kafka))
    words = ("--topic", clicks, "--format", shop_format)
    assert f"Error: topic {clicks} is empty" in invoke(check.main, settings, *words, code=1)
    no_topic = invoke(check.main, settings, "--format", shop_format, code=1)
    assert no_topic.startswith(f"Error: there is no topic {settings.topic} at ")
    send(settings, clicks, [*by_session(0, 900), (b"s", b"no json"), (b"s", event(3, action="rate"))])
    said = invoke(check.main, settings, *words, code=1)
    assert "keys are not the user's id, such as session" in said
    assert "users are in several partitions: python -m stream.rekey" in said
    keyed = [
        (f"eu:{each['payload']['user']['id']}".encode(), each) for each in map(event, range(5_000, 6_000))
    ]
    send(settings, clicks, keyed + keyed[:30])
    said = invoke(check.main, settings, *words, "--records", 900)
    assert f"topic {clicks}: 900 of 1,932 records read" in said
    assert "behaviours: " in said and "buy" in said and "skipped: scroll" in said
    assert "UTC, from numbers; 0 ms from the records' timestamps" in said
    assert "rekey" not in said and "murmur2" not in said
    as_ms = shop_format.with_name("ms.toml")
    as_ms.write_text(FORMAT.replace("[behaviours]", 'time_unit = "milliseconds"\n[behaviours]'))
    said = invoke(check.main, settings, "--topic", clicks, "--format", as_ms, "--records", 900, code=1)
    assert "seconds          600" in said
    assert 'would be as seconds: a format with time_unit = "seconds" reads them so' in said
    said = invoke(check.main, settings, "--topic", clicks, code=1)
    assert (
        "unreadable" in said and "fields: id, shop, action, payload.user.id, payload.item, payload.at" in said
    )
    made = set(partition_counts(settings.kafka)) - topics - {"__consumer_offsets"}
    assert (groups() - before, made) == (set(), set())


def test_rekeyed_topic_loses_nothing_whatever_is_killed_and_repeats_are_duplicates(
    settings: Settings,
    clicks: str,
    shop_format: Path,
    worker: WorkerProcess,
    shop: Shop,
    rekey_command: Sequence[str],
) -> None:
    count = 9_000
    values = by_session(0, count)
    for _, value in values[::2]:
        del value["id"]  # then its place stands for one
    send(settings, clicks, [*values, (None, b"no json"), (b"s", event(3, action="rate"))])
    words = ["--topic", clicks, "--format", str(shop_format), "--to", settings.topic]
    for command in (["-m", "stream.rekey"], rekey_command):
        killed_in_the_middle(settings, [*command, *words])
    invoke(rekey.main, settings, *words)
    assert "events=0 skipped=0 dead_letters=0 lost=0" in invoke(rekey.main, settings, *words)
    found = [*read_all(settings.kafka, settings.topic)]
    expected = {
        (f"eu:{number * 7 % USERS}", f"i{number % 50}", START_S * 1000 + number * 60_000)
        for number in range(count)
        if number % 3 != 2
    }
    events = [json.loads(record.value() or b"") for record in found]
    assert {(each["user_id"], each["item_id"], each["time"]) for each in events} == expected
    assert len(expected) == len({each["event_id"] for each in events})
    for record, each in zip(found, events, strict=True):
        assert record.key() == each["user_id"].encode()
        assert record.timestamp()[1] == each["time"]
        assert record.partition() == (murmur2(record.key()) & 0x7FFFFFFF) % settings.partitions
        assert each["user_geohash"] == "9q8"
    dead = [dict(record.headers() or ()) for record in read_all(settings.kafka, settings.dead_letter_topic)]
    assert {each["reason"] for each in dead} == {b"behaviour", b"unreadable"}
    worker.start()
    shop.published = len(events)
    proof = shop.prove()
    assert proof.is_ok, proof.complaint
    assert proof.applied + proof.late + proof.duplicate == len(events)
    assert proof.malformed == 0


def killed_in_the_middle(settings: Settings, words: Sequence[str]) -> None:
    """Have a process rekey, and kill it as soon as it has written something, seen or not."""
    before = sum(end_offsets(settings.kafka, settings.topic).values())
    process = subprocess.Popen(
        [sys.executable, *words],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while process.poll() is None and sum(end_offsets(settings.kafka, settings.topic).values()) == before:
            pass
    finally:
        process.kill()
        process.communicate()


def test_worker_with_a_format_applies_what_is_not_to_be_skipped(
    settings: Settings, shop_format: Path, tmp_path: Path, shop: Shop
) -> None:
    ours = replace(settings, event_format=str(shop_format))
    values = [event(number) for number in range(900)]
    records: list[tuple[bytes | None, Any]] = [
        (f"eu:{each['payload']['user']['id']}".encode(), each) for each in values
    ]
    bad = [(b"eu:1", event(1, action="rate")), (b"other", event(1)), (b"eu:1", event(1, payload={}))]
    send(ours, ours.topic, [*records, *bad, *records[:30]])
    process = WorkerProcess(tmp_path / "worker", worker_environment(ours))
    try:
        process.start()
        shop.settings, shop.published = ours, len(records) + len(bad) + 30
        found = shop.prove()
        assert found.is_ok, found.complaint
        assert (found.applied, found.duplicate, found.malformed, found.skipped) == (600, 20, 3, 310)
        assert process.metrics()["twintide_events_total{skipped}"] == 310
    finally:
        process.kill()
