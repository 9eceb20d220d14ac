"""Whether a model's items should go on learning from the stream, and how: by the rows it was chosen by."""

import numpy as np

from models.artifact.artifact import Artifact
from models.log.behaviour_log import BehaviourLog
from offline.stream_walk.events import WalkedLog, walked
from offline.stream_walk.search import Found, find_live_items

#: Rows held out by which it can be told, at least, and how many of them are ranked.
MIN_ROWS, CASES = 1_000, 1_000
#: Where fewer of the rows than this are returns to an item that their user had, those are not ranked.
RARE_RETURNS = 0.05


def live_items_of(log: BehaviourLog, artifact: Artifact, until_ms: int | None) -> Found | None:
    """Return what a walk of the rows finds that are newer than what the artifact has learned, up to a time.

    None where that cannot be told: a log held out by user has no present, few rows say little, and a score by
    cosine has no place for popularity.
    """
    if until_ms is None or artifact.settings.model.score == "cosine":
        return None
    since_ms = int(artifact.training["learned_until_ms"])
    is_walked = (log.time_ms > since_ms) & (log.time_ms < until_ms)
    if is_walked.sum() < MIN_ROWS:
        return None
    stream = walked(log.select(log.time_ms < until_ms), artifact)
    exclude_seen = _returns(stream, since_ms) < RARE_RETURNS
    return find_live_items(stream, artifact, since_ms, until_ms, CASES, exclude_seen=exclude_seen)


def _returns(stream: WalkedLog, since_ms: int) -> float:
    """Return the share of the rows after a time whose user had their item before."""
    pairs = stream.user.astype(np.int64) * stream.item_count + stream.item
    is_return = np.ones(len(pairs), np.bool_)
    is_return[np.unique(pairs, return_index=True)[1]] = False
    return float(is_return[stream.log.time_ms > since_ms].mean())
