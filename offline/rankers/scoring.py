"""Held-out samples -> what they are given, beside items that are drawn, by a ranker or whoever scores."""

from collections.abc import Callable

import numpy as np
import torch

from models.arrays import Doubles, Ints
from models.rankers.base import RankerModule
from models.rankers.settings import RankerSettings
from offline.rankers.measures import Scored
from offline.rankers.questions import Drawer, Questions
from offline.rankers.samples import Asked, Samples
from offline.rankers.settings import RankerTrainSettings

#: Items drawn for each positive that is scored, and how many positives are scored at most.
SCORED_NEGATIVES, MAX_SCORED = 50, 3_000
#: Samples scored at a time.
SCORED_AT_ONCE = 64

#: Gives a batch's candidates (B, C) scores, as log-odds.
Give = Callable[[Asked], Doubles]


def score(ranker: RankerModule, samples: Samples, drawer: Drawer, settings: RankerTrainSettings) -> Scored:
    """Return what a ranker gives samples; see `ask`."""
    ranker.eval()

    def give(asked: Asked) -> Doubles:
        with torch.inference_mode():
            found: Doubles = ranker(asked.events, asked.item, asked.category).double().cpu().numpy()
            return found

    device = next(ranker.parameters()).device
    return ask(samples, drawer, ranker.settings, settings, give, device)


def ask(
    samples: Samples,
    drawer: Drawer,
    of_ranker: RankerSettings,
    settings: RankerTrainSettings,
    give: Give,
    device: torch.device | None = None,
) -> Scored:
    """Return what samples are given: each with a list of drawn items, or all of a user as a list.

    Where items are drawn, they are the same at each call, count in the log loss as often as while learning,
    and of many samples MAX_SCORED are asked, evenly spread.
    """
    is_drawn = settings.negatives_from == "drawn"
    asked = min(MAX_SCORED, len(samples)) if is_drawn else len(samples)
    some = samples.take(np.linspace(0, len(samples) - 1, asked).astype(np.int64))
    own = drawer if is_drawn else None
    share = settings.negatives / SCORED_NEGATIVES
    questions = Questions(some, of_ranker, own, SCORED_NEGATIVES, share, device or torch.device("cpu"))
    scores, label, weight = _columns(questions, np.random.default_rng(settings.seed), give)
    user, number = (np.repeat(each, scores.shape[1]) for each in (some.user, np.arange(len(some))))
    counts = weight.ravel() > 0
    scores, label, weight = (each.ravel()[counts] for each in (scores, label, weight))
    return Scored(scores, label, weight, user[counts], (number if is_drawn else user)[counts])


def _columns(
    questions: Questions, random: np.random.Generator, give: Give
) -> tuple[Doubles, Doubles, Doubles]:
    """Return scores, labels and weights (S, C) of all samples and their candidates."""
    parts = []
    for begin in range(0, len(questions.samples), SCORED_AT_ONCE):
        batch: Ints = np.arange(begin, min(begin + SCORED_AT_ONCE, len(questions.samples)))
        asked = questions.asked(batch, random)
        known = (each.double().cpu().numpy() for each in (asked.label, asked.weight))
        parts.append([give(asked), *known])
    scores, labels, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    return scores, labels, weights
