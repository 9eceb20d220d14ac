"""Held-out samples -> what a ranker gives them, beside items that are drawn."""

import numpy as np
import torch

from models.arrays import Doubles, Ints
from models.rankers.base import RankerModule
from offline.rankers.measures import Scored
from offline.rankers.questions import Drawer, Questions
from offline.rankers.samples import Samples
from offline.rankers.settings import RankerTrainSettings

#: Items drawn for each positive that is scored, and how many positives are scored at most.
SCORED_NEGATIVES, MAX_SCORED = 50, 3_000
#: Samples scored at a time.
SCORED_AT_ONCE = 64


def score(ranker: RankerModule, samples: Samples, drawer: Drawer, settings: RankerTrainSettings) -> Scored:
    """Return what a ranker gives samples: each with a list of drawn items, or all of a user as a list.

    Where items are drawn, they are the same at each call, count in the log loss as often as while learning,
    and of many samples MAX_SCORED are asked, evenly spread.
    """
    is_drawn = settings.negatives_from == "drawn"
    asked = min(MAX_SCORED, len(samples)) if is_drawn else len(samples)
    some = samples.take(np.linspace(0, len(samples) - 1, asked).astype(np.int64))
    questions = Questions(
        some,
        ranker.settings,
        drawer if is_drawn else None,
        SCORED_NEGATIVES,
        settings.negatives / SCORED_NEGATIVES,
        next(ranker.parameters()).device,
    )
    scores, label, weight = scored_columns(ranker, questions, np.random.default_rng(settings.seed))
    user, number = (np.repeat(each, scores.shape[1]) for each in (some.user, np.arange(len(some))))
    counts = weight.ravel() > 0
    scores, label, weight = (each.ravel()[counts] for each in (scores, label, weight))
    return Scored(scores, label, weight, user[counts], (number if is_drawn else user)[counts])


def scored_columns(
    ranker: RankerModule, questions: Questions, random: np.random.Generator
) -> tuple[Doubles, Doubles, Doubles]:
    """Return scores, labels and weights (S, C) of all samples and their candidates."""
    ranker.eval()
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(questions.samples), SCORED_AT_ONCE):
            batch: Ints = np.arange(begin, min(begin + SCORED_AT_ONCE, len(questions.samples)))
            asked = questions.asked(batch, random)
            found = ranker(asked.events, asked.item, asked.category), asked.label, asked.weight
            parts.append([each.double().cpu().numpy() for each in found])
    scores, labels, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    return scores, labels, weights
