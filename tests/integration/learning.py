"""What tests of item learners share."""

import numpy as np

from models.artifact.artifact import Artifact
from models.ids.texts import texts_of
from models.items.learner import ItemLearner
from models.items.settings import LearnerSettings
from models.windows.fold import EventColumns


def compile_learner(model: Artifact, settings: LearnerSettings) -> None:
    """Have the learner's machine code: making it may take longer than tests wait."""
    one = texts_of(["i1"])
    numbers = np.zeros(1, np.int64)
    events = EventColumns(numbers, numbers, numbers + 1, np.ones(1, np.uint8), numbers, one, one)
    learner = ItemLearner.start(model, model.settings.live_items, settings)
    assert learner.learn(["u"], events) == 1
    ItemLearner.resume(model, model.settings.live_items, learner.state(), settings).forget_item("i1")
