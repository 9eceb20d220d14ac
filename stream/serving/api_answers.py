"""What the API answers: models that describe it, and what is sent."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from stream.serving.ranker import Ranked
from stream.serving.read_protocol import Reason, UserVectors


class Read(BaseModel):
    """What was read of a user, and how good it is."""

    user_id: str
    model: str = Field(description="Version of the artifact that the user's vector is of.")
    age_s: float = Field(description="Seconds since the vector was written.")
    reason: Reason = Field(description="Empty: the user's own vector; else what stands in, or is wrong.")


class RankedItem(BaseModel):
    """An item and its score."""

    item_id: str
    score: float
    explored: bool | None = Field(None, description="With `explore`: it is there as little is known of it.")
    weights: list[float] | None = Field(
        None, description="How much each event counted, as `events` has them."
    )


class ReadEvent(BaseModel):
    """An event of the user's history."""

    item_id: str
    category: str
    behaviour: int
    time_ms: int


class RankedUser(Read):
    """A user's items, the best first, but for those that explore."""

    ranker: str = Field(description="Version of the ranker; empty: scores are dot products.")
    items: list[RankedItem]
    unscored: list[str] = Field(description="Candidates that the model has no vector of.")
    not_live: str = Field("", description="Why items are not as the stream has taught them a second ago.")
    events: list[ReadEvent] | None = Field(None, description="With `explain`: the newest, oldest first.")


class RankAnswer(BaseModel):
    """One entry for each user of the request, in its order; all of one model, and of one ranker."""

    users: list[RankedUser]


class VectorAnswer(Read):
    """A user's vectors as they are in Redis."""

    vec: list[float]
    long: list[float] = Field(description="Of the two towers that vec is mixed from; empty without towers.")
    short: list[float]
    ts: int = Field(description="Event time of the newest event (ms).")
    n: int = Field(description="Events in the window.")
    epoch: int = Field(description="Epoch of the source topic.")
    seq: int = Field(description="Source offset of the newest event that the vector knows.")
    history: list[str] = Field(description="Items of the newest events, oldest first, as far as stored.")


class Failure(BaseModel):
    """What went wrong, in one line."""

    error: str


class State(BaseModel):
    """How the process is."""

    status: str
    reason: str = ""


def rank_answer(found: Sequence[Ranked], explain: bool) -> dict[str, Any]:
    """Return a RankAnswer as it is sent: making models of hundreds of items costs more than ranking them."""
    return {"users": [_ranked_user(each, explain) for each in found]}


def _ranked_user(found: Ranked, explain: bool) -> dict[str, Any]:
    items: list[dict[str, Any]] = [
        {"item_id": item_id, "score": score}
        for item_id, score in zip(found.item_ids, found.scores, strict=True)
    ]
    answer = _read(found.user) | {
        "ranker": found.ranker,
        "items": items,
        "unscored": found.unscored,
        "not_live": found.not_live,
    }
    for item, is_explored in zip(items, found.is_explored, strict=bool(found.is_explored)):
        item["explored"] = is_explored
    if explain:
        answer["events"] = [event._asdict() for event in found.events]
        for item, weights in zip(items, found.attention, strict=bool(found.attention)):
            item["weights"] = weights
    return answer


def vector_answer(found: UserVectors) -> dict[str, Any]:
    """Return a VectorAnswer as it is sent."""
    return _read(found) | {
        "vec": found.vec.tolist(),
        "long": found.long.tolist(),
        "short": found.short.tolist(),
        "ts": found.ts,
        "n": found.n,
        "epoch": found.epoch,
        "seq": found.seq,
        "history": list(found.history),
    }


def _read(user: UserVectors) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "model": user.model,
        "age_s": round(user.age_s, 3),
        "reason": user.reason,
    }
