"""What a ranker teaches the towers: how likely it holds a target and drawn items, for a share of the targets.

A ranker that learned beside drawn items says by how much an item is likelier than to be drawn. The towers'
scores are to be those of a softmax over all items, so the log of that chance is added to what it says.
"""

import logging
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.errors import SettingsError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, PADDING
from models.ranker import Candidates
from models.rankers.load import LoadedRanker
from models.windows.histories import Histories
from models.windows.log_histories import last_events
from models.windows.window import WindowSettings
from offline.training.data import Stretches
from offline.training.negatives import negative_sampler
from offline.training.settings import TrainSettings

logger = logging.getLogger(__name__)

#: Targets with a lesson at most, as a ranker takes about a millisecond for each, and scored at a time.
MAX_LESSONS, SCORED_AT_ONCE = 50_000, 1_024
#: Items drawn at once where only the chance of each is asked.
MANY = 1_000


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a teacher says of L targets, each beside items that were drawn for it.

    event (L,) ascending: the targets' places among the events of the histories; item (L, C) the target and
    the drawn ones, PADDING for one that stands there already; share (L, C) the teacher's softmax of them.
    """

    event: Tensor
    item: Tensor
    share: Tensor

    def __len__(self) -> int:
        return len(self.event)

    def to(self, device: torch.device) -> "Lessons":
        """Return them on a device."""
        return Lessons(self.event.to(device), self.item.to(device), self.share.to(device))

    def rows(self, event: Tensor) -> Tensor:
        """Return the lesson (M,) of each target, by its place (M,) among the events; -1 where it has none."""
        place = torch.searchsorted(self.event, event.contiguous()).clamp(max=len(self) - 1)
        return torch.where(self.event[place] == event, place, -1)


def lessons_of(
    teacher: LoadedRanker,
    train: Stretches,
    vocabulary: Vocabulary,
    window: WindowSettings,
    settings: TrainSettings,
) -> Lessons:
    """Return what a ranker says of a share of the targets of these stretches, as it is served.

    It reads what each user's window held just before the target. SettingsError where it knows other items.
    """
    if teacher.vocabulary.to_bytes() != vocabulary.to_bytes():
        raise SettingsError(
            f"--teacher knows other items ({len(teacher.vocabulary.item_ids):,}, version {teacher.version}) "
            f"than the towers would ({len(vocabulary.item_ids):,}): train both with the same min_item_count "
            "and max_items"
        )
    began_s = time.monotonic()
    random = np.random.default_rng((settings.seed, 2**32))
    event = _chosen(train, settings.teacher_share, random)
    drawn = settings.teacher_candidates * len(event)
    items, weight = train.histories.item, train.weight
    shares = settings.uniform_share, settings.popularity_power
    sampler = negative_sampler(items, weight, len(vocabulary.item_ids), drawn, *shares)
    beside = sampler.draw(random).numpy().reshape(-1, len(event)).T  # (L, C - 1), of each column one kind
    item = distinct(np.hstack([items[event, None].astype(np.int64), beside]))
    said = _scores(teacher, train.histories, event, item, window) + _log_drawn(teacher, train)[item]
    said[item == PADDING] = -np.inf
    share = _softmax(said / np.float32(settings.teacher_temperature))
    logger.info(
        "ranker %s said of %d targets how likely they are beside %d others, in %.0f s",
        *(teacher.version, len(event), beside.shape[1], time.monotonic() - began_s),
    )
    return Lessons(*(torch.from_numpy(each) for each in (event, item, share)))


def pasts_of(histories: Histories, event: Ints, window: WindowSettings) -> Histories:
    """Return what users' windows held just before events (L,), of which none is its user's first."""
    user = np.searchsorted(histories.starts, event, side="right") - 1
    firsts = np.maximum(histories.starts[user], event - window.max_events)
    counts = event - firsts
    starts = np.concatenate(([0], np.cumsum(counts)))
    rows = np.repeat(firsts - starts[:-1], counts) + np.arange(starts[-1])
    owner = np.repeat(np.arange(len(event), dtype=np.int32), counts)
    return histories.select(*last_events(rows, owner, histories.time_ms[rows], window))


def distinct(item: Ints) -> Ints:
    """Return items (L, C) with PADDING in place of one that stands further left in its row already."""
    order = np.argsort(item, axis=1, kind="stable")
    ordered = np.take_along_axis(item, order, axis=1)
    again = np.zeros(item.shape, np.bool_)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return np.where(again, PADDING, item)


def _chosen(train: Stretches, share: float, random: np.random.Generator) -> Ints:
    """Return a share of the targets (L,), places in the histories, ascending; the heavier ones rather."""
    histories = train.histories
    is_asked = (train.weight > 0) & (histories.item >= FIRST_KNOWN)
    starts = histories.starts[:-1]
    is_asked[starts[np.diff(histories.starts) > 0]] = False  # whose past is empty
    event = np.flatnonzero(is_asked)
    count = min(max(round(share * len(event)), 1), MAX_LESSONS)
    # The least of exponential draws, each over its weight: without replacement, by weight (Efraimidis 2006).
    late = random.exponential(size=len(event)) / train.weight[event]
    return np.sort(event[np.argpartition(late, count - 1)[:count]])


def _scores(
    teacher: LoadedRanker, histories: Histories, event: Ints, item: Ints, window: WindowSettings
) -> Floats:
    """Return the teacher's scores (L, C) of items (L, C) at the times of events (L,)."""
    found = np.empty(item.shape, np.float32)
    for begin in range(0, len(event), SCORED_AT_ONCE):
        some = slice(begin, begin + SCORED_AT_ONCE)
        asked, starts = item[some].ravel(), np.arange(len(item[some]) + 1) * item.shape[1]
        candidates = Candidates(asked, teacher.item_categories[asked], starts)
        pasts, now_ms = pasts_of(histories, event[some], window), histories.time_ms[event[some]]
        found[some] = teacher.ranker.rank(pasts, candidates, now_ms).score.reshape(-1, item.shape[1])
    return found


def _log_drawn(teacher: LoadedRanker, train: Stretches) -> Floats:
    """Return the log of the chance (I + 2,) that an item was drawn beside a target; 0 if rows were taken."""
    said, known = teacher.training, len(teacher.vocabulary.item_ids)
    if said.get("negatives_from", "drawn") == "rows":
        return np.zeros(FIRST_KNOWN + known, np.float32)
    is_positive = (train.weight > 0) & np.isin(train.histories.behaviour, said["positives"])
    shares = said["uniform_share"], said["popularity_power"]
    sampler = negative_sampler(train.histories.item, is_positive, known, MANY, *shares)
    of_batch = said.get("in_batch_share", 0.0)
    chance = (1 - of_batch) * sampler.probability + of_batch * sampler.popularity  # (I,)
    return np.pad(chance.clamp(min=1e-9).log().numpy(), (FIRST_KNOWN, 0))


def _softmax(scores: Floats) -> Floats:
    """Return the shares (L, C) of scores (L, C)."""
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Floats = (share / share.sum(axis=1, keepdims=True)).astype(np.float32)
    return found
