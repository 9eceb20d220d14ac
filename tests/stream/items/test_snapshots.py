"""Snapshots on a real topic: whole or not at all, only what changed, and damage is said."""

import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from confluent_kafka import Producer

from stream.items.merge import Position
from stream.items.snapshots import CHUNK_BYTES, DamagedError, Snapshot, Snapshots, read_manifest
from stream.kafka.connection import KafkaConnection

pytestmark = pytest.mark.integration

ROWS = CHUNK_BYTES // 4


@pytest.fixture
def topic() -> str:
    return f"test-{uuid.uuid4().hex[:8]}-items-v"


def snapshot(big: "np.ndarray[Any, Any]", offset: int, **others: "np.ndarray[Any, Any]") -> Snapshot:
    return Snapshot({"big": big, **others}, {0: Position(offset, 7), 2: Position(1, 2)}, "topic-id", "{}")


def test_state_comes_back_as_it_was_and_only_what_changed_is_written(
    kafka: KafkaConnection, topic: str
) -> None:
    snapshots = Snapshots(kafka, topic, 1)
    assert snapshots.load() is None
    big = np.arange(3 * ROWS + 5, dtype=np.float32).reshape(-1, 1)
    more: dict[str, np.ndarray[Any, Any]]
    more = {"text": np.frombuffer("ü".encode(), np.uint8), "none": np.zeros((0, 4), np.int64)}
    assert snapshots.save(snapshot(big, 10, **more)) == big.nbytes + 2
    big[ROWS + 3] = -1
    assert snapshots.save(snapshot(big, 20, **more)) == CHUNK_BYTES
    big = big[: ROWS + 4]  # there is less of it, of which some is the same
    assert snapshots.save(snapshot(big, 30, **more)) == big.nbytes - CHUNK_BYTES
    again = Snapshots(kafka, topic, 1)
    found = again.load()
    assert found is not None
    assert (found.number, found.topic_id, found.settings) == (3, "topic-id", "{}")
    assert found.positions == {0: Position(30, 7), 2: Position(1, 2)}
    for name, array in {"big": big, **more}.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert again.save(snapshot(big, 40, **more)) == 0  # it knows what is there
    manifest = read_manifest(kafka, topic)
    assert manifest is not None
    assert manifest.positions[0] == (40, 7)


def test_snapshot_that_was_not_finished_is_none(kafka: KafkaConnection, topic: str) -> None:
    snapshots = Snapshots(kafka, topic, 1)
    big = np.arange(ROWS, dtype=np.float32)
    snapshots.save(snapshot(big, 1))
    snapshots._producer.begin_transaction()
    snapshots._write_chunks("big", np.zeros(CHUNK_BYTES, np.uint8))
    snapshots._producer.flush(10)  # all of it has arrived, and then the learner is killed
    found = Snapshots(kafka, topic, 1).load()
    assert found is not None
    np.testing.assert_array_equal(found.arrays["big"], big)


def test_what_is_damaged_is_said_and_what_to_do(kafka: KafkaConnection, topic: str) -> None:
    Snapshots(kafka, topic, 1).save(snapshot(np.arange(ROWS, dtype=np.float32), 1))
    producer = Producer({**kafka.librdkafka(), "acks": "all"})
    producer.produce(topic, b"something else", b"big/0")
    assert producer.flush(10) == 0
    with pytest.raises(DamagedError, match=f"topic {topic} is damaged .chunk 0 of big.*delete it, and"):
        Snapshots(kafka, topic, 1).load()


def test_state_of_so_many_items_that_its_manifest_is_larger_than_a_record_comes_back(
    kafka: KafkaConnection, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three million items of 128 dimensions have 45,000 chunks."""
    monkeypatch.setattr("stream.items.snapshots.CHUNK_BYTES", 16)
    big = np.random.default_rng(0).integers(0, 255, 16 * 60_000, np.uint8)
    snapshots = Snapshots(kafka, topic, 1)
    snapshots.save(snapshot(big, 10))
    manifest = read_manifest(kafka, topic)
    assert manifest is not None and len(msgspec.json.encode(manifest)) > 1_050_000
    found = Snapshots(kafka, topic, 1).load()
    assert found is not None
    np.testing.assert_array_equal(found.arrays["big"], big)
