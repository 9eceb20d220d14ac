"""The learner of items: what it computes, that batches and restarts change nothing, and spam."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from bench.harness.artifact import publish_untrained
from models.artifact.artifact import Artifact, load
from models.artifact.live_items import LiveItemsSettings
from models.ids.texts import texts_of
from models.ids.vocabulary import Vocabulary
from models.items.learner import ItemLearner, LearnerSettings
from models.windows.fold import EventColumns

LIVE = LiveItemsSettings(half_lives_ms=(60_000, 3_600_000), rate=0.1)
SMALL = LearnerSettings(remembered_pairs=1_000)


class Click(NamedTuple):
    user: str
    item: str
    time_ms: int
    category: str = ""
    event_id: int = 0


def columns(clicks: Sequence[Click]) -> tuple[list[str], EventColumns]:
    users = list(dict.fromkeys(click.user for click in clicks))
    return users, EventColumns(
        np.array([users.index(click.user) for click in clicks], np.int64),
        np.arange(len(clicks)),
        np.array([click.time_ms for click in clicks], np.int64),
        np.ones(len(clicks), np.uint8),
        np.array([click.event_id or hash(click) % 2**62 for click in clicks], np.int64),
        texts_of([click.item for click in clicks]),
        texts_of([click.category for click in clicks]),
    )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    store: Path = tmp_path_factory.mktemp("items")
    publish_untrained(store, Vocabulary([f"i{n}" for n in range(20)], [2, 3] * 10, ["a", "b"]))
    return load(store)


def traffic(count: int, seed: int = 0) -> list[Click]:
    """Return clicks of 30 users on 40 items, half of them new to the model, a few late and a few twice."""
    random = np.random.default_rng(seed)
    clicks = []
    for number in range(count):
        late_ms = 20_000 * int(random.random() < 0.1)
        user, item = f"u{random.integers(30)}", f"i{random.integers(40)}"
        clicks.append(Click(user, item, 1_000_000 + number * 1_000 - late_ms, "ab"[int(item[1:]) % 2]))
        if random.random() < 0.05:
            clicks.append(clicks[-1])
    return clicks


def learned(
    artifact: Artifact, clicks: Sequence[Click], batch: int, settings: LearnerSettings = SMALL
) -> ItemLearner:
    learner = ItemLearner.start(artifact, LIVE, settings)
    for part in parts(clicks, batch):
        learner.learn(*columns(part))
    return learner


def parts(clicks: Sequence[Click], size: int) -> Iterator[Sequence[Click]]:
    return (clicks[at : at + size] for at in range(0, len(clicks), size))


def assert_same(left: ItemLearner, right: ItemLearner) -> None:
    ours, theirs = left.state(), right.state()
    assert ours.keys() == theirs.keys()
    for name in ours:
        one, other = ours[name], theirs[name]
        if name.startswith("pairs/"):
            one, other = np.sort(one), np.sort(other)
        np.testing.assert_array_equal(one, other, err_msg=name)


#: Limits so low that rows of items and users are given to others all the time.
TIGHT = replace(SMALL, max_new_items=8, max_users=9, remembered_pairs=20, item_ttl_ms=60_000)


@pytest.mark.parametrize("settings", [SMALL, TIGHT], ids=["roomy", "tight"])
def test_batches_and_restarts_change_no_bit(artifact: Artifact, settings: LearnerSettings) -> None:
    clicks = traffic(600)
    whole = learned(artifact, clicks, len(clicks), settings)
    assert_same(whole, learned(artifact, clicks, 7, settings))
    resumed = ItemLearner.start(artifact, LIVE, settings)
    for part in parts(clicks, 50):
        resumed.learn(*columns(part))
        resumed = ItemLearner.resume(artifact, LIVE, resumed.state(), settings)
    assert_same(whole, resumed)
    assert whole.counts_of_events["learned"] > 100 and whole.counts_of_events["duplicate"] > 10
