"""What is known of one user, as the page shows it: window, sessions, weights, vector, nearest items."""

from dataclasses import replace
from typing import Any

import numpy as np
import redis

from models.arrays import Floats
from models.artifact.artifact import Artifact
from models.encoder import EventWeights
from models.errors import ArtifactError, TwintideError
from models.events import Behaviour
from models.ids.vocabulary_file import UNKNOWN
from models.inference.inference import Inference
from models.inference.influence import influence
from models.sessions import DEFAULT_GAP_MS, starts_session
from models.windows.histories import Histories, histories_of_windows
from models.windows.live_inputs import LiveInputs
from models.windows.window import Window, read_offset, window_from_bytes
from stream.explain.lookup import Found, Lookup
from stream.serving.item_index import best
from stream.serving.read_protocol import UserVectors
from stream.serving.reader import Reader
from stream.store.clients import redis_client
from stream.worker.twintide_app import TwintideApp

#: Items shown.
NEAREST = 10

#: What a reader's reason means, in words.
REASONS = {
    "": "the user's own vector",
    "behind": "the user's own vector, which does not know the newest event yet",
    "stale": "the user's own vector, written too long ago",
    "long": "the short vector has expired: the long one stands for both",
    "category": "no vector of this user: that of a cold-start user at a category",
    "cold_start": "no vector of this user: that of a cold-start user, who gets what is popular",
    "other_model": "only vectors of another model: a cold-start user's stands in",
}


class Explanation:
    """Explains users; its methods may be called from any thread but the event loop's, one at a time."""

    def __init__(self, app: TwintideApp, lookup: Lookup) -> None:
        self._app = app
        self._lookup = lookup
        self._reader: Reader | None = None

    def user(self, user_id: str) -> dict[str, Any]:
        """Return everything but the nearest items."""
        found = self._lookup.find(user_id)
        vectors, why_not = self._read(user_id)
        artifact = self._artifact(vectors)
        answer: dict[str, Any] = {
            "user_id": user_id,
            "partition": found.partition,
            "partitions": found.partitions,
            "where": found.where,
            "worker": found.worker,
            "is_waiting": found.is_waiting,
            "window": _window(found.window, artifact) if found.window else None,
            "vector": _vector(vectors) if vectors else None,
            "no_vector": why_not,
        }
        if found.window and artifact:
            live = self._live(vectors)
            answer |= _weights(found.window, artifact, live)
            answer["difference"] = _difference(found, vectors, artifact, live)
        return answer

    def nearest(self, user_id: str) -> dict[str, Any]:
        """Return the items with the greatest scores for the vector that a ranker gets."""
        vectors, why_not = self._read(user_id)
        artifact = self._artifact(vectors)
        if vectors is None or artifact is None:
            return {"items": [], "why_not": why_not or "this worker has not loaded the vector's model"}
        rows, scores = best(artifact.items.scores(vectors.vec), NEAREST)
        items = [
            {"item_id": artifact.item_ids[row], "score": round(float(score), 4)}
            for row, score in zip(rows.tolist(), scores, strict=True)
        ]
        return {"items": items, "why_not": "", "of": len(artifact.item_ids)}

    def _read(self, user_id: str) -> tuple[UserVectors | None, str]:
        """Return what a ranker gets now, or why it gets nothing."""
        settings = self._app.settings
        if not settings.encode:
            return None, "this worker keeps windows alone (TWINTIDE_ENCODE=false)"
        if self._reader is None:
            self._reader = Reader(redis_client(settings.redis), key_prefix=settings.key_prefix)
        try:
            return self._reader.read([user_id])[0], ""
        except redis.RedisError as error:
            return None, f"Redis does not answer: {error}"
        except TwintideError as error:
            return None, str(error)

    def _live(self, vectors: UserVectors | None) -> LiveInputs | None:
        """Return what items have become by now, where that is what a vector was made with; else None."""
        live = self._app.parts.live_models
        return live.inputs(vectors.model) if live and vectors and vectors.inputs else None

    def _artifact(self, vectors: UserVectors | None) -> Artifact | None:
        """Return the model of a vector, of the one that serves where there is no vector; None: not loaded."""
        live = self._app.parts.live_models
        return live.artifact(vectors.model if vectors else live.serving) if live else None


def _window(value: bytes, artifact: Artifact | None) -> dict[str, Any]:
    """Return a window, its events oldest first; without a model all items pass for known."""
    window = window_from_bytes(value)
    gap_ms = artifact.settings.gap_ms if artifact else DEFAULT_GAP_MS
    return {
        "events": _events(window, value, artifact, gap_ms),
        "gap_ms": gap_ms,
        "offset": window.offset,
        "applied": window.applied,
        "duplicate": window.duplicate,
        "late": window.late,
    }


def _events(window: Window, value: bytes, artifact: Artifact | None, gap_ms: int) -> list[dict[str, Any]]:
    """Return the events with the number of each one's session, and whether the model knows the item."""
    opens = starts_session(np.array(window.times_ms, np.int64), np.zeros(1, np.int64), gap_ms)
    known = np.ones(len(window), np.bool_)
    if artifact:
        known = histories_of_windows([value], artifact.vocabulary).item != UNKNOWN
    behaviours = [Behaviour(behaviour).name.lower() for behaviour in window.behaviours]
    names = ("time_ms", "behaviour", "item_id", "category", "session", "is_known")
    columns = (window.times_ms, behaviours, window.item_ids, window.categories)
    rows = zip(*columns, np.cumsum(opens).tolist(), known.tolist(), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _vector(vectors: UserVectors) -> dict[str, Any]:
    return {
        "model": vectors.model,
        "age_s": round(vectors.age_s, 3),
        "event_ms": vectors.ts or None,
        "events": vectors.n,
        "offset": vectors.seq,
        "inputs": vectors.inputs,
        "reason": vectors.reason,
        "says": REASONS[vectors.reason],
        "dimension": len(vectors.vec),
        "length": round(float(np.linalg.norm(vectors.vec)), 4),
        "history": list(vectors.history),
    }


def _weights(value: bytes, artifact: Artifact, live: LiveInputs | None) -> dict[str, Any]:
    """Return what each event weighs, in each way in which it can, by name: values in the window's order."""
    # Where an event is left out, one more of those before it is among the newest.
    reaching = replace(live, reach=live.reach + 1) if live else None
    history = histories_of_windows([value], artifact.vocabulary, reaching)
    weights = {"influence": _rounded(influence(artifact, history))}
    found = _event_weights(artifact, history)
    if found is None:
        return {"weights": weights}
    for name, values in {"direct": found.direct, "short": found.short, "long": found.long}.items():
        if values is not None:
            weights[name] = _rounded(values)
    return {"weights": weights, "short_share": round(found.short_share, 4)}


def _event_weights(artifact: Artifact, history: Histories) -> EventWeights | None:
    """Return what the events weigh in the towers, None of a model of another kind; PyTorch where need be."""
    found = artifact.encoder.event_weights(history) if isinstance(artifact.encoder, Inference) else None
    if found is not None:
        return found
    try:
        towers = artifact.towers
    except ArtifactError:
        return None
    from models.towers.event_weights import event_weights

    return event_weights(towers, history, artifact.settings.features)


def _difference(
    found: Found, vectors: UserVectors | None, artifact: Artifact, live: LiveInputs | None
) -> float | None:
    """Return how far the vector in Redis is from what its window encodes to, None where it cannot be said.

    Of a vector that is being made, or was made since the window was read, nothing can; nor of one for which
    items were what they are not any more.
    """
    if found.window is None or vectors is None or vectors.reason or found.is_waiting:
        return None
    if vectors.seq > read_offset(found.window):
        return None
    if vectors.inputs and (live is None or live.number != vectors.inputs):
        return None
    histories = histories_of_windows([found.window], artifact.vocabulary, live)
    encoded = artifact.encode(histories, [vectors.user_id]).user[0]
    return float(f"{np.abs(encoded - vectors.vec).max():.2g}")


def _rounded(values: Floats) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
