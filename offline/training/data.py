"""A behaviour log -> slices by time or per user, and the stretches of history that training reads."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from models.arrays import Flags, Floats, Ints
from models.blocks import blocks_of, groups_of
from models.errors import DataError
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.log.behaviour_log import BehaviourLog
from models.towers.features import Tokens, pad
from models.towers.histories import EventFeatures
from models.windows.histories import Histories
from offline.ranking.protocols import LEAST_ROWS
from offline.training.settings import TrainSettings

#: Targets per stretch at most; a stretch also carries the events before them that the long tower reads.
STRETCH_TARGETS = 100


@dataclass(frozen=True, slots=True)
class Slices:
    """Which rows of a log train, validate and test; test begins at cutoff_ms (None: leave-one-out)."""

    train: Flags
    validation: Flags
    test: Flags
    cutoff_ms: int | None


def slice_log(log: BehaviourLog, settings: TrainSettings) -> Slices:
    """Divide the rows of a log; DataError where a slice would be empty."""
    slices = _by_time(log, settings) if settings.protocol == "time" else _last_of_users(log)
    for name in ("train", "validation", "test"):
        if not getattr(slices, name).any():
            raise DataError(
                f"{log.path}: {len(log)} rows of {len(np.unique(log.user.codes))} users at "
                f"{len(np.unique(log.time_ms))} times are too few for protocol {settings.protocol}: "
                f"its {name} slice is empty; give a longer log"
            )
    return slices


def _by_time(log: BehaviourLog, settings: TrainSettings) -> Slices:
    """Cut at two times, so that rows of one time stay together."""
    times_ms = np.sort(log.time_ms)
    test_rows = int(len(log) * settings.test_share)
    held_rows = int(len(log) * (settings.test_share + settings.validation_share))
    cutoff_ms = int(times_ms[len(log) - max(test_rows, 1)])
    before = times_ms[: np.searchsorted(times_ms, cutoff_ms)]
    place = min(max(len(log) - held_rows, 0), len(before) - 1)
    validation_ms = int(before[place]) if len(before) else cutoff_ms
    train = log.time_ms < validation_ms
    test = log.time_ms >= cutoff_ms
    return Slices(train, ~train & ~test, test, cutoff_ms)


def _last_of_users(log: BehaviourLog) -> Slices:
    """Take each user's last row for test, the one before for validation, where LEAST_ROWS or more exist."""
    order = log.by_user()
    users = log.user.codes[order]
    is_last = np.append(users[1:] != users[:-1], True)
    ends = np.flatnonzero(is_last) + 1
    counts = np.diff(ends, prepend=0)
    from_end = np.repeat(ends, counts) - np.arange(len(order))
    enough = np.repeat(counts, counts) >= LEAST_ROWS
    test, validation = np.zeros(len(log), np.bool_), np.zeros(len(log), np.bool_)
    test[order[(from_end == 1) & enough]] = True
    validation[order[(from_end == 2) & enough]] = True
    return Slices(~test & ~validation, validation, test, None)


@dataclass(frozen=True, slots=True)
class Stretches:
    """S pieces of user histories with the places whose next event is a target.

    Piece s reads the events first[s] to last[s] (without it) of `histories`; from begin[s] on, the event
    behind each is a target. weight (E,) is how much each event counts as a target, 0 for one that is none,
    or whether it counts at all; share (S,) is the chance with which a pass reads the piece.
    """

    histories: Histories
    derived: EventFeatures
    first: Ints
    begin: Ints
    last: Ints
    weight: Floats | Flags
    share: Floats

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tensors of B pieces: what is read, and at each place (B, T) the target behind it (0 for none).

    boundary, short_start (B, T): as in EventFeatures, counted from the piece's first event; event (B, T) the
    place in the histories of what is behind each; opening (O,) the items with which histories open, targets
    of a cold-start user; weights and times (epoch ms) are those of the targets.
    """

    tokens: Tokens
    boundary: Tensor
    short_start: Tensor
    target: Tensor
    target_weight: Tensor
    target_ms: Tensor
    event: Tensor
    opening: Tensor
    opening_weight: Tensor
    opening_ms: Tensor

    def to(self, device: torch.device) -> "Stretch":
        """Return it on a device."""
        return Stretch(*(getattr(self, each.name).to(device) for each in fields(self)))


def cut_stretches(
    histories: Histories, derived: EventFeatures, weight: Floats | Flags, long_events: int
) -> Stretches:
    """Cut histories into pieces of at most STRETCH_TARGETS targets and the events these look back on.

    weight (E,) is over 0 for the events that are targets; of each piece, no event from its last target on is
    read. long_events: how many the long tower looks back on. A piece whose targets all weigh less than 1 is
    read as rarely as the heaviest weighs.
    """
    found = [np.zeros((3, 0), np.int64)]
    shares = [np.zeros(0, np.float32)]
    for users in groups_of(histories.starts):
        starts = histories.starts[users.start : users.stop + 1]
        places, share = _cut(starts - starts[0], weight[starts[0] : starts[-1]], long_events)
        found.append(places + starts[0])
        shares.append(share)
    first, begin, last = np.concatenate(found, axis=1)
    return Stretches(histories, derived, first, begin, last, weight, np.concatenate(shares))


def _cut(starts: Ints, weight: Floats | Flags, long_events: int) -> tuple[Ints, Floats]:
    """Return first, begin and last (3, S) of the pieces of some users, and their share (S,)."""
    wanted = weight > 0
    counts = np.diff(starts)
    pieces = -(-np.maximum(counts - 1, 0) // STRETCH_TARGETS)
    user = np.repeat(np.arange(len(counts)), pieces)
    number = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = starts[user] + number * STRETCH_TARGETS
    last = np.minimum(begin + STRETCH_TARGETS, starts[user + 1] - 1)
    targets = np.concatenate(([0], np.cumsum(wanted)))
    used = targets[last + 1] > targets[begin + 1]
    begin, last, user = begin[used], last[used], user[used]
    places = np.flatnonzero(wanted)
    begin = places[targets[begin + 1]] - 1
    last = places[targets[last + 1] - 1]
    first = np.maximum(begin - long_events, starts[user])
    spans = np.stack([begin, last + 1], axis=1).ravel()  # of each piece, and between pieces
    weight = np.append(weight.astype(np.float32, copy=False), np.float32(0))
    heaviest = np.maximum.reduceat(weight, spans)[::2] if len(spans) else weight[:0]
    return np.stack([first, begin, last]), np.minimum(heaviest, 1)


def together(some: Stretches, others: Stretches) -> Stretches:
    """Return the pieces of both, of the same histories; no event may be a target in both."""
    return replace(
        some,
        first=np.concatenate([some.first, others.first]),
        begin=np.concatenate([some.begin, others.begin]),
        last=np.concatenate([some.last, others.last]),
        share=np.concatenate([some.share, others.share]),
        weight=some.weight + others.weight,
    )


def end_at_pauses(histories: Histories, horizon_ms: int) -> Histories:
    """Return the histories, ended by every pause over `horizon_ms`: a window drops what came before it."""
    starts = histories.starts
    for some in blocks_of(len(histories.time_ms)):
        pause_ms = np.diff(histories.time_ms[some.start : some.stop + 1])
        starts = np.union1d(starts, np.flatnonzero(pause_ms > horizon_ms) + some.start + 1)
    return Histories(histories.item, histories.category, histories.behaviour, histories.time_ms, starts)


def return_share(stretches: Stretches, item_count: int) -> float:
    """Return r / (r + c): how often targets are items that their users had before, and would be by chance.

    0: never; 0.5: as often as if it were any of the `item_count` known items; nearly 1: far more often.
    """
    histories = stretches.histories
    returns = had = count = 0
    for users in groups_of(histories.starts):
        begin, end = histories.starts[[users.start, users.stop]]
        asked = (stretches.weight[begin:end] > 0) & (histories.item[begin:end] >= FIRST_KNOWN)
        is_return, had_before = _returns(histories.part(users), item_count)
        returns += int(is_return[asked].sum())
        had += int(had_before[asked].sum())
        count += int(asked.sum())
    if not returns:
        return 0.0
    by_chance = had / count / item_count
    return returns / count / (returns / count + by_chance)


def _returns(histories: Histories, item_count: int) -> tuple[Flags, Ints]:
    """Return whether each event's (E,) item was there before, and how many different known ones were."""
    counts = np.diff(histories.starts)
    pair = np.repeat(np.arange(len(histories)), counts) * (FIRST_KNOWN + item_count) + histories.item
    order = np.argsort(pair, kind="stable")
    is_return = np.zeros(len(pair), np.bool_)
    is_return[order[1:]] = pair[order[1:]] == pair[order[:-1]]
    is_new = ~is_return & (histories.item >= FIRST_KNOWN)
    had = np.concatenate(([0], np.cumsum(is_new)))
    return is_return, had[:-1] - np.repeat(had[histories.starts[:-1]], counts)


def shuffled(stretches: Stretches, size: int, random: np.random.Generator) -> Iterator[Ints]:
    """Yield batches of `size` pieces of about the same length, in random order; each piece by its share."""
    order = random.permutation(len(stretches))
    picked = np.floor(np.cumsum(stretches.share[order], dtype=np.float64) + random.random())
    order = order[np.diff(picked, prepend=0) > 0]
    length = (stretches.last - stretches.first)[order] + random.uniform(0, 20, len(order))
    order = order[np.argsort(length, kind="stable")]
    batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
    for place in random.permutation(len(batches)):
        yield batches[place]


def collate(
    stretches: Stretches, pieces: Ints, unknown_share: float = 0.0, random: np.random.Generator | None = None
) -> Stretch:
    """Return the tensors of these pieces; a share of the items read is made unknown, their category kept."""
    histories, derived = stretches.histories, stretches.derived
    first, begin, last = stretches.first[pieces], stretches.begin[pieces], stretches.last[pieces]
    tokens = pad(histories, derived, first, last - first)
    if random is not None and unknown_share:
        hidden = torch.from_numpy(random.random(tokens.item.shape) < unknown_share) & (tokens.item > 0)
        tokens.item[hidden] = UNKNOWN
    rows = first[:, None] + np.arange(tokens.item.shape[1])  # (B, T)
    is_asked = (rows >= begin[:, None]) & (rows < last[:, None])  # (B, T)
    rows = np.minimum(rows, last[:, None] - 1)
    next_item = histories.item[rows + 1]  # (B, T)
    weight = stretches.weight[rows + 1] / stretches.share[pieces][:, None]  # (B, T)
    is_target = is_asked & (weight > 0) & (next_item >= FIRST_KNOWN)
    user_start = histories.starts[np.searchsorted(histories.starts, first, side="right") - 1]
    skipped = (first - user_start)[:, None]
    opening_weight = stretches.weight[first] / stretches.share[pieces]  # (B,)
    opens = (first == begin) & (opening_weight > 0) & (histories.item[first] >= FIRST_KNOWN)
    return Stretch(
        tokens=tokens,
        boundary=torch.from_numpy(np.maximum(derived.boundary[rows] - skipped, 0)),
        short_start=torch.from_numpy(np.maximum(derived.short_start[rows] - skipped, 0)),
        target=torch.from_numpy(np.where(is_target, next_item, 0).astype(np.int64)),
        target_weight=torch.from_numpy(weight),
        target_ms=torch.from_numpy(histories.time_ms[rows + 1]),
        event=torch.from_numpy(rows + 1),
        opening=torch.from_numpy(histories.item[first[opens]].astype(np.int64)),
        opening_weight=torch.from_numpy(opening_weight[opens]),
        opening_ms=torch.from_numpy(histories.time_ms[first[opens]]),
    )
