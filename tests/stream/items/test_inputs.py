"""What a learner publishes of its inputs, as a worker has it: nobody's taste alone, nothing that is gone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import redis

from bench.harness.artifact import publish_untrained
from models.arrays import Floats
from models.artifact.artifact import Artifact, load
from models.artifact.live_items import LiveItemsSettings
from models.ids.hashes import hashes_of
from models.ids.texts import texts_of
from models.ids.vocabulary import Vocabulary
from models.items.learner import ItemLearner
from models.items.settings import LearnerSettings
from models.windows.fold import EventColumns
from stream.encoding.live_inputs import LiveInputsFollower
from stream.items.inputs import InputsPublisher
from stream.store.input_rows import input_row_bytes

pytestmark = pytest.mark.integration

LIVE = LiveItemsSettings(half_lives_ms=(60_000, 3_600_000), rate=0.1)
SMALL = LearnerSettings(remembered_pairs=1_000)
PREFIX = "test-inputs:"
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    store: Path = tmp_path_factory.mktemp("inputs")
    publish_untrained(store, Vocabulary([f"i{n}" for n in range(20)], [2, 3] * 10, ["a", "b"]))
    return load(store)


class World:
    """A learner, what publishes its inputs, and a worker that follows them."""

    def __init__(self, client: "redis.Redis", artifact: Artifact, rows_per_s: int = 1_000) -> None:
        self.learner = ItemLearner.start(artifact, LIVE, SMALL)
        size = rows_per_s * input_row_bytes(self.learner.inputs.shape[1])
        self.publisher = InputsPublisher(client, PREFIX, self.learner, size)
        self._follower, self._version = LiveInputsFollower(client, PREFIX), artifact.version
        self._follower.follow(artifact)
        self._events = 0

    def click(self, users: Sequence[str], items: Sequence[str]) -> None:
        """Have each user click each item, an hour after what was before."""
        for user in users:
            for item in items:
                self._events += 1
                numbers = np.array([self._events])
                columns = EventColumns(
                    np.zeros(1, np.int64),
                    numbers,
                    numbers * HOUR_MS,
                    np.ones(1, np.uint8),
                    numbers,
                    texts_of([item]),
                    texts_of(["a"]),
                )
                self.learner.learn([user], columns)

    def has(self, *items: str) -> list[Floats | None]:
        """Publish, and return the vector (D,) that the worker has of each item, None where it has none."""
        self.publisher.publish()
        self._follower.poll()
        inputs = self._follower.of(self._version)
        assert inputs is not None
        rows = inputs.table.find(hashes_of(texts_of(items)))
        return [None if row < 0 else inputs.vectors(np.array([row]))[0] for row in rows.tolist()]

    def row(self, item: str) -> int:
        return self.learner.item_ids.index(item)


def users(count: int) -> list[str]:
    return [f"u{number}" for number in range(count)]


def is_as_read(found: Floats | None, vector: Floats) -> bool:
    return found is not None and bool(np.abs(found - vector).max() <= np.abs(vector).max() / 127)


def test_inputs_are_the_learners_own_from_five_readers_on_and_nobodys_before(
    redis_client: redis.Redis, artifact: Artifact
) -> None:
    world = World(redis_client, artifact)
    assert world.has("i0", "new") == [None, None]
    world.click(users(4), ["i0", "new", "i1"])
    known, new = world.has("i0", "new")
    assert known is None  # as trained, which the worker has
    shown = world.learner.shown.rows(np.array([world.row("new")])).inputs[0]
    assert is_as_read(new, shown)
    assert not np.allclose(shown, world.learner.inputs[world.row("new")], atol=1e-3)
    world.click(users(9), ["i0", "new", "i1"])
    known, new = world.has("i0", "new")
    assert is_as_read(known, world.learner.inputs[0])
    assert is_as_read(new, world.learner.inputs[world.row("new")])
    world.publisher.begin()  # as after Redis lost it
    assert is_as_read(world.has("new")[0], world.learner.inputs[world.row("new")])


def test_item_that_is_gone_is_as_trained_and_its_row_may_be_anothers(
    redis_client: redis.Redis, artifact: Artifact
) -> None:
    world = World(redis_client, artifact)
    world.click(users(8), ["i0", "old", "i1"])
    assert all(each is not None for each in world.has("i0", "old"))
    row = world.row("old")
    for item in ("i0", "old"):
        world.learner.forget_item(item)
    assert world.has("i0", "old") == [None, None]
    world.click(users(8), ["other", "i2", "more"])
    world.learner.forget_item("more")
    world.click(users(8), ["most", "i2"])
    assert "other" in world.learner.item_ids and row < len(world.learner.item_ids)
    old, other, more, most = world.has("old", "other", "more", "most")
    assert (old, more) == (None, None)
    assert is_as_read(other, world.learner.inputs[world.row("other")])
    assert is_as_read(most, world.learner.inputs[world.row("most")])


def test_what_does_not_fit_into_a_second_waits_and_comes(
    redis_client: redis.Redis, artifact: Artifact
) -> None:
    world = World(redis_client, artifact, rows_per_s=3)
    world.has()
    names = [f"new{number}" for number in range(10)]
    world.click(users(6), names)
    counts = [sum(each is not None for each in world.has(*names)) for _ in range(5)]
    assert counts[0] == 3 and counts == sorted(counts)
    for _ in range(10):
        found = world.has(*names)
    for name, each in zip(names, found, strict=True):
        assert is_as_read(each, world.learner.inputs[world.row(name)])
