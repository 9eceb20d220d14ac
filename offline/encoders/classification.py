"""Scores as a yes or no: is this the user's next item, or one that was drawn?"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Floats
from models.encoder import Model
from models.ids.vocabulary_file import FIRST_KNOWN
from offline.ranking.protocols import Cases

#: Of what is drawn beside the next items, the same in every pass.
SEED = 0


@dataclass(frozen=True, slots=True)
class Classification:
    """Shares of right answers, over B next items, which are to be a yes, and B drawn ones, a no.

    precision: of those that got a yes; recall: of the next items; f1: their harmonic mean. threshold: the
    score from which on it is a yes.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    threshold: float


def classification_of(model: Model, cases: Cases, threshold: float | None = None) -> Classification:
    """Return how a model tells each case's next item from an item drawn as often as users had it.

    threshold: None for the one that is right most often here; give validation's for a test. A next item that
    the model does not know gets a no.
    """
    positive, negative = _scores(model, cases)
    if threshold is None:
        threshold = best_threshold(positive, negative)
    return classify(positive, negative, threshold)


def classify(positive: Floats, negative: Floats, threshold: float) -> Classification:
    """Return the shares of scores (B,) of next items and (B,) of drawn ones, split at a threshold."""
    hits, alarms = int((positive >= threshold).sum()), int((negative >= threshold).sum())
    accuracy = (hits + len(negative) - alarms) / (len(positive) + len(negative))
    precision = hits / (hits + alarms) if hits else 0.0
    recall = hits / len(positive)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return Classification(accuracy, precision, recall, f1, threshold)


def best_threshold(positive: Floats, negative: Floats) -> float:
    """Return the score at which accuracy is highest; the lowest of such."""
    scores = np.concatenate([positive, negative])
    is_next = np.arange(len(scores)) < len(positive)
    order = np.argsort(scores, kind="stable")
    gained = np.cumsum(np.where(is_next[order], -1, 1))  # right answers more than if all got a yes
    ordered = scores[order]
    ends = np.flatnonzero(ordered[1:] != ordered[:-1])  # a threshold lies between two different scores
    if not len(ends) or gained[ends].max() <= 0:
        return float(ordered[0])
    return float(ordered[1 + ends[np.argmax(gained[ends])]])


def _scores(model: Model, cases: Cases) -> tuple[Floats, Floats]:
    """Return the scores (B,) of the next items, and of as many drawn by how often users had them."""
    users, items = model.on_cpu().encode(cases.histories, cases.user_ids).user, model.item_vectors()
    drawn = _drawn(cases, len(items))
    positive = np.einsum("bd,bd->b", users, items[np.maximum(cases.target, 0)])
    positive = np.where(cases.target >= 0, positive, -np.inf).astype(np.float32)
    negative: Floats = np.einsum("bd,bd->b", users, items[drawn])
    return positive, negative


def _drawn(cases: Cases, items: int) -> npt.NDArray[np.int64]:
    """Return a known item (B,) for each case, another one than its next where there are two."""
    random = np.random.default_rng(SEED)
    had = cases.past.item[cases.past.item >= FIRST_KNOWN].astype(np.int64) - FIRST_KNOWN
    had = had if len(had) else np.arange(items)
    drawn = had[random.integers(0, len(had), len(cases.target))]
    again = np.flatnonzero(drawn == cases.target)
    if items > 1:  # another of all, each alike
        drawn[again] = (drawn[again] + random.integers(1, items, len(again))) % items
    return drawn
