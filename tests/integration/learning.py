"""What tests of item learners share."""

from pathlib import Path

import numpy as np
import torch

from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.artifact.settings import ArtifactSettings
from models.ids.texts import texts_of
from models.ids.vocabulary import Vocabulary
from models.items.learner import ItemLearner
from models.items.settings import LearnerSettings
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from models.windows.fold import EventColumns


def publish_live_model(store: Path, known: int) -> Artifact:
    """Return a published artifact with random weights, whose items i0, i1 and so on go on learning."""
    torch.manual_seed(0)
    items = [f"i{number}" for number in range(known)]
    vocabulary = Vocabulary(items, [2 + number % 3 for number in range(known)], ["c0", "c1", "c2"])
    live = LiveItemsSettings(is_on=True, half_lives_ms=(60_000, 3_600_000), weights=(1.0, 0.5), own=0.5)
    settings = ArtifactSettings(model=ModelSettings(dimension=16), live_items=live)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    made = artifacts.save(store, towers, vocabulary, settings, {}, {})
    artifacts.publish(store, made.version)
    compile_learner(made, LearnerSettings())
    return made


def compile_learner(model: Artifact, settings: LearnerSettings) -> None:
    """Have the learner's machine code: making it may take longer than tests wait."""
    one = texts_of(["i1"])
    numbers = np.zeros(1, np.int64)
    events = EventColumns(numbers, numbers, numbers + 1, np.ones(1, np.uint8), numbers, one, one)
    learner = ItemLearner.start(model, model.settings.live_items, settings)
    assert learner.learn(["u"], events) == 1
    ItemLearner.resume(model, model.settings.live_items, learner.state(), settings).forget_item("i1")
