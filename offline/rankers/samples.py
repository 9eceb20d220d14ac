"""What a ranker is asked: would this user, with this past, choose this item now?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.arrays import Flags, Floats, Ints
from models.errors import DataError
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.rankers.columns import EventRows, rows_of_spans
from models.rankers.features import FeatureRows, features_of_spans
from models.rankers.layers import Events, Features
from models.rankers.settings import RankerSettings
from models.sessions import starts_session
from models.windows.histories import Histories
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline.rankers.settings import RankerTrainSettings

#: So many batches are put together of samples of about equal length.
SORTED_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Samples:
    """S events of a log as targets.

    target (S,) the event's place in `histories`; first (S,) the first event before it that may be read; user
    (S,); label (S,) 1 for a positive, 0 for a row that is a negative.
    """

    histories: Histories
    target: Ints
    first: Ints
    user: Ints
    label: Floats

    def __len__(self) -> int:
        return len(self.target)

    def take(self, some: Ints | Flags) -> "Samples":
        """Return some of the samples (indices, or which)."""
        return Samples(self.histories, self.target[some], self.first[some], self.user[some], self.label[some])

    def rows(self, some: Ints, settings: RankerSettings) -> EventRows:
        """Return what is read of the pasts of samples (indices), each as it was at its target's time."""
        target = self.target[some]
        firsts = self._firsts(some, settings)
        return rows_of_spans(self.histories, firsts, target, self.histories.time_ms[target], settings)

    def pasts(self, some: Ints, settings: RankerSettings) -> Histories:
        """Return the pasts of samples (indices) as what is served is given them."""
        firsts, whole = np.minimum(self._firsts(some, settings), self._newest(some, settings)), self.histories
        counts = self.target[some] - firsts
        starts = np.concatenate(([0], np.cumsum(counts)))
        place = np.repeat(firsts - starts[:-1], counts) + np.arange(starts[-1])
        item, category, behaviour = whole.item[place], whole.category[place], whole.behaviour[place]
        return Histories(item, category, behaviour, whole.time_ms[place], starts)

    def features(self, some: Ints, item: Ints, category: Ints, settings: RankerSettings) -> FeatureRows:
        """Return the features of candidates (B, C) of samples (indices), each as at its target's time."""
        target = self.target[some]
        spans = self._newest(some, settings), target
        now_ms = self.histories.time_ms[target]
        return features_of_spans(self.histories, *spans, now_ms, item, category, settings)

    def _firsts(self, some: Ints, settings: RankerSettings) -> Ints:
        """Return the first event (B,) that may be read as one of the past."""
        if settings.kind == "dsin":
            return self.first[some]
        return np.maximum(self.first[some], self._newest(some, settings))

    def _newest(self, some: Ints, settings: RankerSettings) -> Ints:
        """Return the first (B,) of the newest `max_events`."""
        return np.maximum(self.histories.starts[self.user[some]], self.target[some] - settings.max_events)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[Ints]:
        """Yield all samples (indices) in batches, by chance, but those of about equal length together."""
        order = random.permutation(len(self))
        for begin in range(0, len(order), size * SORTED_BATCHES):
            some = order[begin : begin + size * SORTED_BATCHES]
            some = some[np.argsort((self.target - self.first)[some], kind="stable")]
            batches = [some[at : at + size] for at in range(0, len(some), size)]
            yield from (batches[place] for place in random.permutation(len(batches)))


@dataclass(frozen=True, slots=True)
class Material:
    """A log's events by user as a ranker's vocabulary has them, and where what may be read of each begins."""

    histories: Histories
    first: Ints
    order: Ints

    def samples(self, rows: Flags, settings: RankerTrainSettings) -> Samples:
        """Return the samples of rows (R,) of the log: positives and, where rows are negatives, the others."""
        is_positive = np.isin(self.histories.behaviour, settings.positives)
        is_asked = rows[self.order] & (is_positive | (settings.negatives_from == "rows"))
        target = np.flatnonzero(is_asked)
        user = np.searchsorted(self.histories.starts, target, side="right") - 1
        return Samples(
            self.histories, target, self.first[target], user, is_positive[target].astype(np.float32)
        )


def material_of(log: BehaviourLog, vocabulary: Vocabulary, settings: RankerSettings) -> Material:
    """Return the log's events in the order of `log.by_user()`."""
    _, histories = histories_of_log(log, vocabulary, EVERYTHING, is_small=True)
    counts = np.diff(histories.starts)
    first = np.repeat(histories.starts[:-1], counts)
    if settings.kind == "dsin":
        first = np.maximum(first, _first_of_sessions(histories, settings))
    return Material(histories, first, log.by_user())


def _first_of_sessions(histories: Histories, settings: RankerSettings) -> Ints:
    """Return for each event (E,) where the oldest session begins that is read just before it."""
    opens = starts_session(histories.time_ms, histories.starts[:-1], settings.gap_ms)
    begins = np.flatnonzero(opens)
    number = np.cumsum(opens) - 1
    before = np.append(0, number[:-1])  # the session of the event before
    found: Ints = begins[np.maximum(before - settings.sessions + 1, 0)]
    return found


def check_samples(log: BehaviourLog, name: str, samples: Samples, settings: RankerTrainSettings) -> None:
    """Raise DataError where a slice has no positive, or no negative where rows are to be that."""
    positives = int(samples.label.sum())
    if positives and (settings.negatives_from == "drawn" or positives < len(samples)):
        return
    missing = "negative" if positives else "positive"
    raise DataError(
        f"{log.path}: the {name} slice has no {missing} row among {len(samples)} (positives are behaviours "
        f"{', '.join(map(str, settings.positives))}): give a longer log, or other --positives"
    )


def tensors_of(rows: EventRows, device: torch.device) -> Events:
    """Return the columns as tensors."""
    return Events(*(torch.from_numpy(column).to(device) for column in rows.columns().values()))


def features_of(
    samples: Samples, some: Ints, item: Ints, category: Ints, settings: RankerSettings, device: torch.device
) -> Features | None:
    """Return the features of candidates (B, C) of samples (indices) as tensors, where a ranker reads any."""
    if not settings.features:
        return None
    rows = samples.features(some, item, category, settings)
    return Features(*(torch.from_numpy(column).to(device) for column in rows.columns().values()))


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch: pasts of B users (B, T), and candidates (B, C) with labels and how much each counts.

    features: of a ranker that reads any.
    """

    events: Events
    item: Tensor
    category: Tensor
    label: Tensor
    weight: Tensor
    features: Features | None = None

    def at(self, place: Tensor) -> "Asked":
        """Return it with the candidates in these places (B, N) alone."""
        return Asked(
            self.events,
            self.item.gather(1, place),
            self.category.gather(1, place),
            self.label.gather(1, place),
            self.weight.gather(1, place),
            self.features and self.features.at(place),
        )

    def with_unknown(self, share: float, unknown: int, generator: torch.Generator) -> "Asked":
        """Return it with a share of the items, of events and candidates, made unknown."""

        def hidden(items: Tensor) -> Tensor:
            chance = torch.rand(items.shape, generator=generator).to(items.device)
            return torch.where((chance < share) & (items > 0), unknown, items)

        events, item = self.events._replace(item=hidden(self.events.item)), hidden(self.item)
        features = self.features and self.features.without_items(item == unknown)
        return replace(self, events=events, item=item, features=features)
