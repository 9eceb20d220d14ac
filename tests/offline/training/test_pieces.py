"""What training makes of a log a block at a time is what it would make at once, whatever the block."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import blocks
from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.towers.histories import FeatureSettings, event_features, features_of_log
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline.training.data import return_share, slice_log
from offline.training.half_lives import HalfLives
from offline.training.negatives import negative_sampler
from offline.training.pieces import stretches_of
from offline.training.popularity import popularity_of
from offline.training.selection import artifact_settings
from offline.training.settings import TrainingConfig, read_config


@pytest.fixture(scope="module")
def small_log(walk_csv: Path) -> BehaviourLog:
    return read_behaviour_log(walk_csv)


def arrays_of(value: Any) -> dict[str, Any]:
    """Return the arrays that a dataclass holds, also those of dataclasses in it, by name."""
    found: dict[str, Any] = {}
    for field in fields(value):
        if (each := getattr(value, field.name)) is None:  # what only a worker's have
            continue
        inner = {"": each} if isinstance(each, np.ndarray) else arrays_of(each)
        found |= {f"{field.name}.{name}": array for name, array in inner.items()}
    return found


def made(log: BehaviourLog, config: TrainingConfig) -> tuple[dict[str, Any], HalfLives]:
    """Return all that a fit starts from, as arrays by name, and the half-lives."""
    slices = slice_log(log, config.train)
    vocabulary = vocabulary_of_log(log, 1, 30, slices.train)
    settings = artifact_settings(log, config)
    pieces, half_lives = stretches_of(log, slices, vocabulary, settings, config.train)
    train = pieces["train"]
    item, time_ms = train.histories.item, train.histories.time_ms
    found: dict[str, Any] = {"return share": return_share(train, 30)}
    for name, stretches in pieces.items():
        found |= {f"{name} {key}": each for key, each in arrays_of(stretches).items()}
    for hours in (5.0, np.inf):
        found[f"popularity {hours}"] = popularity_of(item, time_ms, 30, hours).log_share.numpy()
    found["popularity"] = negative_sampler(item, train.weight, 30, 100, 0.5).popularity.numpy()
    return found, half_lives


@pytest.mark.parametrize("protocol", ["time", "leave-one-out"])
def test_blocks_change_nothing(
    small_log: BehaviourLog, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(None, {"protocol": protocol, "half_life_h": 30.0, "horizon_ms": 14_400_000})
    expected, half_lives = made(small_log, config)
    assert len(expected["train first."]) > 20
    for size in (1, 7, 50):
        monkeypatch.setattr(blocks, "BLOCK", size)
        found, again = made(small_log, config)
        assert again == half_lives
        for name, each in expected.items():
            np.testing.assert_array_equal(found[name], each, name)


def test_small_numbers_are_those_that_the_worker_computes(small_log: BehaviourLog) -> None:
    vocabulary = vocabulary_of_log(small_log)
    small, large = (
        histories_of_log(small_log, vocabulary, EVERYTHING, is_small=is_small)[1]
        for is_small in (True, False)
    )
    settings = FeatureSettings()
    for ours, theirs in (
        (small, large),
        (features_of_log(small, settings), event_features(large, settings)),
    ):
        for name, each in arrays_of(theirs).items():
            np.testing.assert_array_equal(arrays_of(ours)[name], each, name)
    assert small.item.dtype == np.int8 and small.category.dtype == np.int8
    nobody = large.part(slice(0, 0))
    assert len(features_of_log(nobody, settings).gap) == 0
