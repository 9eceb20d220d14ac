"""How a model's items should go on learning: found by a walk of the rows that it was chosen by."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from models.arrays import Doubles
from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.errors import DataError
from models.items.learner import ItemLearner
from offline.ranking.metrics import gains_in_ten
from offline.stream_walk.contestants import Frozen, Learning, all_ways, name_of
from offline.stream_walk.counts import HALF_LIVES_MS
from offline.stream_walk.events import WalkedLog, sampled
from offline.stream_walk.walk import Walk

#: Lengths of a new item's own direction that are tried (LiveItemsSettings.own).
OWNS = (0.0, 1.0)
#: Learning rates that are tried; rows before what is learned that fill users' last events and counts.
RATES, ROWS_BEFORE = (0.002, 0.005, 0.01, 0.02, 0.04), 50_000
#: Rows between two readings of the loss.
LOSS_ROWS = 1_000
#: Live items must rank better than the model without them by so many standard errors.
SURE = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """The best setting, and NDCG@10 on the rows that it was found by: as trained, and with live items.

    losses: by rate, nats per event of the rows walked; error: that of the difference (one standard error).
    """

    live: LiveItemsSettings
    losses: Mapping[float, float]
    frozen: float
    learned: float
    error: float
    cases: int


def find_live_items(
    stream: WalkedLog, artifact: Artifact, since_ms: int, until_ms: int, cases: int, *, exclude_seen: bool
) -> Found:
    """Return how items learn best on rows of a time (after, before); the model must not have learned them.

    DataError where none of the rows drawn may be ranked.
    """
    live = LiveItemsSettings(learned_until_ms=since_ms)
    begin, end = np.searchsorted(stream.log.time_ms, [since_ms + 1, until_ms]).tolist()
    losses = {rate: _loss(stream, artifact, replace(live, rate=rate), begin, end) for rate in RATES}
    asked = sampled(np.arange(begin, end), cases, seed=0)
    ways = all_ways()
    rate = min(losses, key=lambda rate: losses[rate])
    lives = [
        replace(live, rate=rate if moves_known else live.rate, moves_known=moves_known, own=own)
        for moves_known, own in product((True, False), OWNS)
    ]
    rankers = {str(each): Learning(stream, artifact, each, asked, ways) for each in lives}
    rows, ranks = Walk(stream, exclude_seen).through(
        asked, {**rankers, "frozen": Frozen(stream, artifact, asked, None)}
    )
    if not len(rows):
        raise all_repeats(stream, len(asked))
    tried = list(product(lives, ways))
    gains = [gains_in_ten(ranks[str(each)][name_of(way)]) for each, way in tried]
    place = max(range(len(gains)), key=lambda place: float(gains[place].mean()))
    best, (live, way) = gains[place], tried[place]
    frozen = gains_in_ten(ranks["frozen"][""])
    ahead, error = best - frozen, float((best - frozen).std() / np.sqrt(len(best)))
    found = replace(_weighed(live, way), is_on=bool(ahead.mean() > SURE * error))
    return Found(found, losses, float(frozen.mean()), float(best.mean()), error, len(best))


def all_repeats(stream: WalkedLog, asked: int) -> DataError:
    """Return what to tell where none of the rows asked may be ranked."""
    return DataError(
        f"{stream.log.path}: each of the {asked} rows drawn has an item that its user had before: leave "
        "--exclude-seen out, or ask for more --cases"
    )


def _weighed(live: LiveItemsSettings, way: Doubles) -> LiveItemsSettings:
    one, other = (int(HALF_LIVES_MS[int(way[at])]) for at in (0, 2))
    return replace(live, half_lives_ms=(one, other), weights=(float(way[1]), float(way[3])))


def _loss(stream: WalkedLog, artifact: Artifact, live: LiveItemsSettings, begin: int, end: int) -> float:
    """Return the learner's loss (nats per event), each event scored before it is learned."""
    learner, losses = ItemLearner.start(artifact, live), []
    for at in range(max(begin - ROWS_BEFORE, 0), end, LOSS_ROWS):
        learner.learn(*stream.columns(at, min(at + LOSS_ROWS, end)))
        if at >= begin:
            losses.append(learner.health().loss)
    return float(np.nanmean(losses)) if losses else float("inf")
