"""A model, its live items and all peers on one walk: how the last part of a log ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Flags, Ints
from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.errors import DataError
from models.log.behaviour_log import BehaviourLog
from models.log.times import HOUR_MS
from offline.ranking.metrics import gains_in_ten
from offline.stream_walk.contestants import Counting, Frozen, Learning, all_ways
from offline.stream_walk.counts import HALF_LIVES_MS
from offline.stream_walk.events import WalkedLog, sampled, walked
from offline.stream_walk.peers import peers_of
from offline.stream_walk.search import Found, all_repeats, find_live_items
from offline.stream_walk.walk import Ranker, Walk

#: What the learner is called in tables.
LEARNER = "live items"


@dataclass(frozen=True, slots=True)
class StreamEvaluation:
    """Gains in NDCG@10 of the B targets of the last part, by ranker; ways: which variant each took.

    groups: which targets (B,) belong to each group, by what they have in common; lags: gains by the age of
    the state (ms).
    """

    found: Found
    gains: Mapping[str, Doubles]
    ways: Mapping[str, str]
    groups: Mapping[str, Flags]
    lags: Mapping[int, Doubles]


def evaluate_stream(
    artifact: Artifact,
    log: BehaviourLog,
    cases: int,
    lags_ms: Sequence[int] = (),
    *,
    cutoff_ms: int,
    exclude_seen: bool = False,
) -> StreamEvaluation:
    """Walk a log: up to the cutoff the settings are found, from there on `cases` sampled rows are ranked.

    DataError where either part has no row, or none that may be ranked.
    """
    stream = walked(log, artifact)
    since_ms, times_ms = int(artifact.training["learned_until_ms"]), stream.log.time_ms
    first = np.flatnonzero((times_ms > since_ms) & (times_ms < cutoff_ms))
    last = np.flatnonzero(times_ms >= max(cutoff_ms, since_ms + 1))
    if not len(first) or not len(last):
        raise DataError(
            f"{log.path}: {len(first)} rows between what the model has learned and the cutoff, {len(last)} "
            f"from it on: both parts need some; give a log that goes on, or another --cutoff"
        )
    found = find_live_items(stream, artifact, since_ms, cutoff_ms, cases // 2, exclude_seen=exclude_seen)
    asked = np.concatenate([sampled(first, cases // 2, seed=0), sampled(last, cases, seed=1)])
    rows, ranks = Walk(stream, exclude_seen).through(asked, _rankers(stream, artifact, found.live, asked))
    is_first = times_ms[rows] < cutoff_ms
    of_first = times_ms[asked] < cutoff_ms
    for of_part, are_ranked in ((of_first, is_first), (~of_first, ~is_first)):
        if not are_ranked.any():
            raise all_repeats(stream, int(of_part.sum()))
    gains, ways = {}, {}
    for name, by_way in ranks.items():
        every = {way: gains_in_ten(each) for way, each in by_way.items()}
        ways[name] = max(every, key=lambda way: float(every[way][is_first].mean()))
        gains[name] = every[ways[name]][~is_first]
    groups = _groups(stream, rows[~is_first], since_ms)
    lags = {
        lag_ms: _lagged(stream, artifact, found.live, asked, lag_ms, exclude_seen)[~is_first]
        for lag_ms in lags_ms
    }
    return StreamEvaluation(found, gains, ways, groups, lags)


def _rankers(
    stream: WalkedLog, artifact: Artifact, live: LiveItemsSettings, asked: Ints
) -> dict[str, Ranker]:
    own: dict[str, Ranker] = {
        LEARNER: Learning(stream, artifact, live, asked, way_of(live)),
        "as trained": Frozen(stream, artifact, asked, None),
        "as trained, popularity": Frozen(stream, artifact, asked, all_ways()),
    }
    return own | {name: Counting(peer) for name, peer in peers_of(stream).items()}


def way_of(live: LiveItemsSettings) -> Doubles:
    """Return the one way (1, 4) in which these settings weigh popularity."""
    one, other = (int(np.flatnonzero(each == HALF_LIVES_MS)[0]) for each in live.half_lives_ms)
    return np.array([[one, live.weights[0], other, live.weights[1]]])


def _lagged(
    stream: WalkedLog,
    artifact: Artifact,
    live: LiveItemsSettings,
    asked: Ints,
    lag_ms: int,
    exclude_seen: bool,
) -> Doubles:
    """Return the gains of all rows asked where what is shown is up to so old."""
    learning = Learning(stream, artifact, live, asked, way_of(live), lag_ms)
    _, ranks = Walk(stream, exclude_seen).through(asked, {LEARNER: learning})
    return gains_in_ten(next(iter(ranks[LEARNER].values())))


def _groups(stream: WalkedLog, rows: Ints, since_ms: int) -> dict[str, Flags]:
    """Return which of the targets (B,) are of new or rare items, or of users with a short history."""
    item, user = stream.item.astype(np.int64), stream.user.astype(np.int64)
    times_ms = stream.log.time_ms
    born_ms = times_ms[np.minimum(stream.first_row[item[rows]], rows)]
    age_ms = times_ms[rows] - born_ms
    is_new = ~np.isin(item[rows], stream.known_codes)
    had, length = _number(item, rows), _number(user, rows)
    return {
        "item first seen now": had == 0,
        "item up to 1 h old": (had > 0) & is_new & (age_ms <= HOUR_MS),
        "item 1 h to 1 day old": is_new & (age_ms > HOUR_MS) & (age_ms <= 24 * HOUR_MS),
        "item older, but new to the model": is_new & (age_ms > 24 * HOUR_MS),
        "item the model knows": ~is_new,
        "item had 1 to 9 times": (had > 0) & (had < 10),
        "item had 10 to 99 times": (had >= 10) & (had < 100),
        "item had 100 times or more": had >= 100,
        "user without history": length == 0,
        "user with 1 to 9 events": (length > 0) & (length < 10),
        "user with 10 or more": length >= 10,
    }


def _number(codes: Ints, rows: Ints) -> Ints:
    """Return how many earlier rows have the same code as each of these (B,)."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    number = np.empty(len(codes), np.int64)
    number[order] = np.arange(len(codes)) - starts
    return number[rows]
