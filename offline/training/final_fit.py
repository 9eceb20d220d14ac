"""The final fit: what held-out rows chose is trained anew on all rows, for as many epochs as was best."""

from pathlib import Path

import numpy as np

from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.rankers.load import LoadedRanker
from models.towers.dual_towers import DualTowers
from offline.training.learner import Course, Learner
from offline.training.lessons import lessons_of
from offline.training.loop import stages_of
from offline.training.parallel import Processes
from offline.training.pieces import material_of
from offline.training.selection import Selected, untrained
from offline.training.settings import TrainSettings
from offline.training.weighing import weigh


def fit_finally(
    log: BehaviourLog,
    selected: Selected,
    settings: TrainSettings,
    checkpoint: Path,
    processes: Processes,
    teacher: LoadedRanker | None = None,
) -> tuple[DualTowers, Vocabulary]:
    """Return towers that have learned all rows of a log, and the vocabulary of all its items.

    Going on from what was selected is cheaper, and ranked worse (docs/training.md). After each epoch the
    state is written to `checkpoint`; if that file exists at the start, the fit resumes from it. teacher: a
    ranker that has learned all rows.
    """
    vocabulary = vocabulary_of_log(log, settings.min_item_count, settings.max_items)
    material = material_of(log, vocabulary, selected.settings)
    everything = np.ones(len(log), np.bool_)
    stretches = material.stretches(material.weight(everything, settings, selected.half_lives.taste_h))
    towers = untrained(vocabulary, selected.settings, stretches, settings)
    epochs, best = selected.planned_epochs, selected.best
    lessons = None
    if teacher is not None:
        asked = teacher, stretches, vocabulary, selected.settings.window, settings
        lessons = processes.from_first(lambda: lessons_of(*asked))
    course = Course(epochs, selected.half_lives.popularity_h)
    learner = Learner(towers, stretches, settings, course, processes, lessons)
    if checkpoint.exists():
        learner.progress.restore(checkpoint)
    processes.wait()
    first = stages_of(epochs, settings)[0]
    for number in range(learner.progress.passes + 1, best.number + 1):
        learner.epoch(number, first.learns if number in first else best.learns)
        if processes.is_first:
            learner.progress.save(checkpoint)
    towers = learner.averaged()
    weigh(towers, selected.weights)
    return towers, vocabulary
