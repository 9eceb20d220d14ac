"""Going on: a trained model learns from rows that it has not seen, and a share of those it has."""

import numpy as np

from models.arrays import Flags, Floats
from models.towers.dual_towers import DualTowers
from offline.training.data import Stretches, together
from offline.training.held_out import ONE_PROCESS
from offline.training.learner import Course, Learner
from offline.training.parallel import Processes
from offline.training.pieces import Material
from offline.training.progress import Learns
from offline.training.settings import TrainSettings
from offline.training.weighing import ItemWeights, weigh

#: Passes over the new rows, and how many older rows are learned again for each new one, so that nothing is
#: forgotten.
PASSES, OLDER_PER_NEW = 2, 4.0


def going_on_stretches(material: Material, weight: Floats, is_new: Flags) -> Stretches:
    """Return the new events (E,) by their weight as targets (E,), and older ones of OLDER_PER_NEW times that.

    They are in pieces of their own, so that few new events cost little.
    """
    older = np.where(is_new, 0, weight)
    new = weight - older
    share = min(OLDER_PER_NEW * new.sum(dtype=np.float64) / (older.sum(dtype=np.float64) or 1.0), 1.0)
    return together(material.stretches(new), material.stretches(older * share))


def go_on(
    towers: DualTowers,
    stretches: Stretches,
    settings: TrainSettings,
    learns: Learns,
    popularity_h: float,
    weights: ItemWeights,
    processes: Processes = ONE_PROCESS,
) -> DualTowers:
    """Return the towers after they have learned from stretches, which are of `going_on_stretches`.

    Their scores begin with the popularity of the stretches' last time. weights: by what was multiplied what
    they had learned of items, and will be again.
    """
    course = Course(PASSES, popularity_h)
    rotation, towers.rotation = towers.rotation, None
    weigh(towers, ItemWeights().over(weights))
    learner = Learner(towers, stretches, settings, course, processes)
    for number in range(1, PASSES + 1):
        learner.epoch(number, learns)
    found = learner.averaged()
    weigh(found, weights)
    found.rotation = rotation
    return found
