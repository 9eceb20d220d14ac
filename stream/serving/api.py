"""The HTTP API: what may be asked of which path, and what each failure is called."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import anyio.to_thread
import msgspec
import redis
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from models.errors import ArtifactError, TwintideError, UnreachableError
from models.windows.window import MAX_ID_BYTES
from stream.serving import metrics
from stream.serving.api_answers import (
    Failure,
    RankAnswer,
    State,
    VectorAnswer,
    rank_answer,
    vector_answer,
)
from stream.serving.api_requests import ITEM_TAGS, MAX_WAIT_S, RankRequest, RecommendRequest
from stream.serving.keeper import Keeper
from stream.serving.measured import Measured
from stream.serving.ranker import Ranked, Ranker
from stream.serving.read_protocol import NoVectorsError, UserVectors
from stream.serving.reader import Reader

logger = logging.getLogger(__name__)

#: Requests that are worked on at the same time; more wait their turn.
CALLS_AT_ONCE = 64

_FAILURES: dict[int | str, dict[str, Any]] = {
    422: {"model": Failure, "description": "It cannot be asked so: what, and where."},
    503: {"model": Failure, "description": "Redis, a model or an artifact is not there."},
}


@dataclass(frozen=True, slots=True)
class Served:
    """What the API answers from."""

    reader: Reader
    ranker: Ranker
    keeper: Keeper


def make_app(served: Served) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="Twintide",
        version="1",
        description="Fresh user vectors, candidates ranked by them, and the best items.",
        lifespan=_lifespan,
    )
    _add_questions(app, served)
    _add_health(app, served.keeper)
    _add_failures(app)
    app.add_middleware(Measured)
    return app


def _add_questions(app: FastAPI, served: Served) -> None:
    @app.post("/rank", responses=_FAILURES, response_model=RankAnswer)
    def rank(asked: RankRequest) -> Response:
        """Rank each user's candidates: one entry for each user, in their order."""
        found = served.ranker.rank_many(
            [user.question() for user in asked.users],
            now_ms=asked.now_ms,
            explain=asked.explain,
            at_least=asked.positions(),
            wait_s=asked.wait_s,
        )
        return _answer(found, asked.explain)

    @app.post("/recommend", responses=_FAILURES, response_model=RankAnswer)
    def recommend(asked: RecommendRequest) -> Response:
        """Find the best of all items for each user, ranked where there is a ranker; a share may explore."""
        found = served.ranker.recommend_many(
            [user.wish(asked.explore, asked.seed) for user in asked.users],
            at_category=asked.at_category,
            now_ms=asked.now_ms,
            explain=asked.explain,
        )
        for each in found:
            metrics.recommended_items_total.labels("new").inc(each.new_items)
            metrics.recommended_items_total.labels("known").inc(len(each.item_ids) - each.new_items)
            metrics.explored_items_total.inc(each.explored_items)
        return _answer(found, asked.explain)

    @app.get("/vector/{user_id:path}", responses=_FAILURES, response_model=VectorAnswer)
    def vector(
        user_id: Annotated[str, Path(min_length=1, max_length=MAX_ID_BYTES)],
        category: Annotated[str, Query(max_length=MAX_ID_BYTES)] = "",
        epoch: Annotated[int, Query(ge=0)] = 0,
        offset: Annotated[int | None, Query(ge=0, description="At least up to there.")] = None,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0.0,
    ) -> Response:
        """Return a user's vectors; with epoch and offset, not before they know that event, or `wait_s`."""
        at_least = None if offset is None else (epoch, offset)
        (found,) = served.reader.read(user_id, category, at_least=at_least, wait_s=wait_s)
        _count([found])
        return _json(vector_answer(found))


def _add_health(app: FastAPI, keeper: Keeper) -> None:
    @app.get("/health/live")
    def live() -> State:
        """Say that the process answers."""
        return State(status="live")

    @app.get("/health/ready", responses={503: {"model": State}})
    def ready(response: Response) -> State:
        """Say whether the process is warm."""
        if keeper.why_not:
            response.status_code = 503
            return State(status="starting", reason=keeper.why_not)
        return State(status="ready")

    @app.get("/metrics", include_in_schema=False)
    def all_metrics() -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _add_failures(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    def refused(request: Request, error: RequestValidationError) -> JSONResponse:
        is_json = "json" in request.headers.get("content-type", "")
        hint = "" if is_json or request.method != "POST" else "; send it as Content-Type: application/json"
        return _failure(422, _in_one_line(error) + hint)

    @app.exception_handler(HTTPException)
    def no_such(request: Request, error: HTTPException) -> JSONResponse:
        return _failure(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(redis.RedisError)
    def redis_is_down(request: Request, error: redis.RedisError) -> JSONResponse:
        metrics.redis_errors_total.inc()
        return _failure(503, f"Redis does not answer: {error}")

    @app.exception_handler(TwintideError)
    def failed(request: Request, error: TwintideError) -> JSONResponse:
        is_away = isinstance(error, NoVectorsError | ArtifactError | UnreachableError)
        return _failure(503 if is_away else 500, str(error))

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        return _failure(500, f"{type(error).__name__}: the log of this process has the rest")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = CALLS_AT_ONCE
    yield


def _answer(found: list[Ranked], explain: bool) -> Response:
    _count([each.user for each in found])
    return _json(rank_answer(found, explain))


def _json(answer: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _count(users: list[UserVectors]) -> None:
    for user in users:
        metrics.users_total.labels(user.reason or "own").inc()


def _failure(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(text.split())[:500]}, status)


def _in_one_line(error: RequestValidationError) -> str:
    """Return where and what is wrong first, and how much more there is."""
    first, *others = error.errors()
    if first["type"] == "json_invalid":
        return f"body: it is no JSON at character {first['loc'][-1]}: {first['ctx']['error']}"
    where = ""
    for part in first["loc"][1:] or first["loc"]:
        if part in ITEM_TAGS:
            continue
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{where.lstrip('.')}: {first['msg'].removeprefix('Value error, ')}{more}"
