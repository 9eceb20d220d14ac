"""Held-out samples -> what they are given, beside items that are drawn, by a ranker or whoever scores."""

from collections.abc import Callable

import numpy as np
import torch

from models.arrays import Doubles, Ints
from models.ranker import Candidates
from models.rankers.base import RankerModule
from models.rankers.load import LoadedRanker
from models.rankers.settings import RankerSettings
from offline.rankers.measures import Scored
from offline.rankers.questions import Drawer, Questions
from offline.rankers.samples import Asked, Samples, features_of, tensors_of
from offline.rankers.settings import Draws, RankerTrainSettings

#: Items drawn for each positive that is scored, and how many positives are scored at most.
SCORED_NEGATIVES, MAX_SCORED = 50, 3_000
#: Samples scored at a time.
SCORED_AT_ONCE = 64

#: Gives a batch's candidates (B, C) scores, as log-odds; the samples (B,) are those that it was made of.
Give = Callable[[Asked, Samples], Doubles]
#: Gives candidates of samples (B,), items and their categories (B, C), scores (B, C).
Score = Callable[[Samples, Ints, Ints], Doubles]


def score(ranker: RankerModule, samples: Samples, drawer: Drawer, settings: RankerTrainSettings) -> Scored:
    """Return what a ranker gives samples; see `ask`."""
    ranker.eval()

    def give(asked: Asked, _: Samples) -> Doubles:
        with torch.inference_mode():
            given = ranker(asked.events, asked.item, asked.category, asked.features)
            found: Doubles = given.double().cpu().numpy()
            return found

    device = next(ranker.parameters()).device
    return ask(samples, drawer, ranker.settings, settings, give, device)


def trained(ranker: RankerModule) -> Score:
    """Return what scores by a ranker that learns."""
    device = next(ranker.parameters()).device

    def score(samples: Samples, item: Ints, category: Ints) -> Doubles:
        ranker.eval()
        every = np.arange(len(samples))
        events = tensors_of(samples.rows(every, ranker.settings), device)
        features = features_of(samples, every, item, category, ranker.settings, device)
        candidates = (torch.from_numpy(each).to(device) for each in (item, category))
        with torch.inference_mode():
            found: Doubles = ranker(events, *candidates, features).double().cpu().numpy()
        return found

    return score


def served(loaded: LoadedRanker) -> Score:
    """Return what scores as it is served, from histories, by a ranker that was loaded."""

    def score(samples: Samples, item: Ints, category: Ints) -> Doubles:
        histories = samples.pasts(np.arange(len(samples)), loaded.settings)
        starts = np.arange(len(samples) + 1) * item.shape[1]
        candidates = Candidates(item.ravel(), category.ravel(), starts)
        now_ms = samples.histories.time_ms[samples.target]
        found = loaded.ranker.rank(histories, candidates, now_ms).score
        return found.reshape(item.shape).astype(np.float64)

    return score


def giving(score: Score) -> Give:
    """Return the same for batches of tensors."""
    return lambda asked, samples: score(samples, asked.item.cpu().numpy(), asked.category.cpu().numpy())


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
    questions = Questions(
        some, of_ranker, own, Draws(drawn=SCORED_NEGATIVES), share, device or torch.device("cpu")
    )
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
        parts.append([give(asked, questions.samples.take(batch)), *known])
    scores, labels, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    return scores, labels, weights
