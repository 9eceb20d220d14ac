"""Which past events a user's vector looks at: the weights of the direct path and of the towers' heads."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.arrays import Doubles, Ints
from models.artifact.artifact import Artifact
from models.errors import DataError
from models.log.behaviour_log import BehaviourLog
from models.towers.dual_towers import DualTowers, last_place
from models.towers.event_weights import direct_weights, tower_attention
from models.towers.features import Tokens, forget_before, pad
from models.towers.histories import FeatureSettings, Part, tower_spans
from models.windows.histories import Histories
from models.windows.log_histories import histories_of_log

#: The most users whose attention is averaged.
MAX_USERS = 1_000


@torch.inference_mode()
def attention(towers: DualTowers, settings: FeatureSettings, histories: Histories) -> dict[str, Doubles]:
    """Return the mean weights (A,) over users of the newest event, the one before it and so on, by reader.

    The readers are the direct path and each head of the towers. A is the longest history. A head's weights of
    one user sum to 1, those of the direct path need not. nan where no user's events are read that far back.
    """
    reading = tower_spans(histories, settings)
    length = int(np.diff(histories.starts).max(initial=0))
    last = histories.starts[1:] - 1
    found = {}
    for part, tokens, weigh in (
        (reading.short, pad(histories, reading.derived, *reading.short), _short_weights),
        (reading.long, forget_before(pad(histories, reading.derived, *reading.long)), _long_weights),
    ):
        if tokens.item.shape[1]:
            for name, weights in weigh(towers, tokens):
                found[name] = _mean_by_distance(weights, part, last, length)
    return found


def some_histories(artifact: Artifact, log: BehaviourLog, user_id: str | None) -> Histories:
    """Return the history of a user of a log, or those of MAX_USERS, evenly spread over all."""
    user_ids, histories = histories_of_log(log, artifact.vocabulary, artifact.settings.window)
    if user_id is None:
        return histories.take(np.unique(np.linspace(0, len(user_ids) - 1, MAX_USERS).astype(np.int64)))
    if user_id not in user_ids:
        raise DataError(f"{log.path} has no user {user_id!r}: name one of its {len(user_ids):,}")
    return histories.take(np.array([user_ids.index(user_id)]))


def describe(weights: Doubles) -> str:
    """Describe in words where most of the weights (A,) are, the newest event's first."""
    size = np.abs(np.nan_to_num(weights))
    share = np.cumsum(size) / max(size.sum(), 1e-12)
    half = int(np.searchsorted(share, 0.5)) + 1
    first = int(np.flatnonzero(~np.isnan(weights))[0])
    return f"most at {int(size.argmax())} events back, half of it within {half}, reads from {first} back"


def _short_weights(towers: DualTowers, tokens: Tokens) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights (B, T) of the events that the short tower reads, its direct path's first."""
    events, (_, query) = towers.embed(tokens), last_place(tokens)
    yield "direct path", direct_weights(towers, tokens)
    for head, weights in enumerate(tower_attention(towers.short_tower, events, query).unbind(1), start=1):
        yield f"short tower, head {head}", weights


def _long_weights(towers: DualTowers, tokens: Tokens) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights (B, T) of the events that the long tower reads."""
    found = tower_attention(towers.long_tower, towers.embed(tokens), last_place(tokens)[1])  # (B, H, T)
    for head, weights in enumerate(found.unbind(1), start=1):
        yield f"long tower, head {head}", weights


def _mean_by_distance(weights: Tensor, part: Part, last: Ints, length: int) -> Doubles:
    """Return the mean (A,) of weights (B, T) of a part's events, by how far each is before `last` (B,)."""
    place = np.arange(weights.shape[1])
    is_real = place < part.counts[:, None]  # (B, T)
    distance = (last[:, None] - part.firsts[:, None] - place)[is_real]  # (E,)
    total = np.bincount(distance, weights.numpy()[is_real], length)
    count = np.bincount(distance, minlength=length)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
