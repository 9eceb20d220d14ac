"""The API: every answer says what it was made from, every refusal what is wrong and where, in one line."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from pydantic import BaseModel
from starlette.testclient import TestClient

from local.ports import free_port
from models.artifact.artifact import Artifact
from models.errors import SettingsError, TwintideError
from stream.serving import Ranker, Reader, Recommender
from stream.serving.__main__ import _listen
from stream.serving.api import Served, make_app
from stream.serving.api_answers import RankAnswer, VectorAnswer
from stream.serving.api_requests import MAX_BODY_BYTES, MAX_CANDIDATES, MAX_SCORED
from stream.serving.keeper import Keeper
from stream.serving.metrics import REGISTRY
from stream.store.model_registry import ModelRegistry
from tests.stream.serving.world import NOW_MS, PREFIX, Stream, save_din, save_towers

pytestmark = pytest.mark.integration

USER = "u/1 ü"


class Api:
    """The API in this process, on real Redis."""

    def __init__(self, client: redis.Redis, store: Path, ranker: Path | None) -> None:
        reader = Reader(client, key_prefix=PREFIX, max_age_s=3600)
        self.recommender = Recommender(reader, store)
        self.ranker = Ranker(reader, self.recommender, ranker)
        self.keeper = Keeper(ModelRegistry(client, PREFIX), self.recommender, self.ranker)
        app = make_app(Served(reader, self.ranker, self.keeper))
        self.http = TestClient(app, raise_server_exceptions=False)

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        if body is None:
            answer = self.http.get(path)
        else:
            content = body if isinstance(body, bytes) else json.dumps(body)
            answer = self.http.post(path, content=content, headers={"Content-Type": "application/json"})
        return answer.status_code, answer.json()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def towers(store: Path) -> Artifact:
    return save_towers(store)


@pytest.fixture(scope="module")
def rankers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("rankers")
    save_din(where)
    return where


@pytest.fixture
def stream(redis_client: redis.Redis, towers: Artifact) -> Stream:
    found = Stream(redis_client, towers)
    for number in range(12):
        found.send(USER, number, NOW_MS - 1_000_000 + number * 50_000)
    return found


@pytest.fixture
def api(redis_client: redis.Redis, store: Path, rankers: Path, stream: Stream) -> Iterator[Api]:
    found = Api(redis_client, store, rankers)
    with found.http:
        yield found


@pytest.fixture
def metric() -> Callable[..., float]:
    return lambda name, **labels: REGISTRY.get_sample_value(f"twintide_serving_{name}", labels) or 0.0


def test_answers_say_model_age_and_reason_and_are_what_the_ranker_gives(
    api: Api, towers: Artifact, metric: Callable[..., float]
) -> None:
    users = [
        {
            "user_id": USER,
            "candidates": ["i1", {"item_id": "new", "category": "c1"}, "i2"],
            "exclude": ["i2"],
        },
        {"user_id": "nobody", "candidates": ["i1", "i2", "i4"], "filter": {"category": "c1"}},
    ]
    status, answer = api.ask("/rank", {"users": users, "now_ms": NOW_MS, "explain": True})
    assert status == 200
    own, nobody = answer["users"]
    assert {item["item_id"] for item in own["items"]} == {"i1", "new"}
    assert {item["item_id"] for item in nobody["items"]} == {"i1", "i4"}
    assert (own["reason"], nobody["reason"]) == ("", "cold_start")
    for each in (own, nobody):
        assert (each["model"], each["ranker"]) == (towers.version, api.ranker.version)
        assert 0 <= each["age_s"] < 600
    assert [event["item_id"] for event in own["events"]] == [f"i{number}" for number in range(2, 12)]
    assert all(len(item["weights"]) == 10 for item in own["items"])
    expected = api.ranker.rank(USER, ["i1"], now_ms=NOW_MS).scores[0]
    (score,) = (item["score"] for item in own["items"] if item["item_id"] == "i1")
    assert score == pytest.approx(expected, abs=1e-5)

    wishes = [{"user_id": USER, "k": 3}, {"user_id": "nobody", "k": 2, "filter": {"category": "c0"}}]
    before = metric("recommended_items_total", items="known")
    status, answer = api.ask("/recommend", {"users": wishes, "now_ms": NOW_MS})
    assert metric("recommended_items_total", items="known") == before + 5
    assert (status, [len(each["items"]) for each in answer["users"]]) == (200, [3, 2])
    best = api.ranker.recommend(USER, 3, now_ms=NOW_MS)
    assert [item["item_id"] for item in answer["users"][0]["items"]] == best.item_ids
    assert "weights" not in answer["users"][0]["items"][0]


def test_a_share_of_a_list_explores_where_it_is_asked_for(api: Api, metric: Callable[..., float]) -> None:
    asked: dict[str, Any] = {"users": [{"user_id": USER, "k": 4}, {"user_id": "nobody", "k": 2}]}
    before = metric("explored_items_total")
    status, answer = api.ask("/recommend", {**asked, "explore": 0.5, "seed": 1, "now_ms": NOW_MS})
    explored = [[item["explored"] for item in each["items"]] for each in answer["users"]]
    assert (status, list(map(len, explored)), list(map(sum, explored))) == (200, [4, 2], [2, 1])
    assert metric("explored_items_total") == before + 3
    assert RankAnswer.model_validate(answer).model_dump(exclude_none=True) == answer
    again = api.ask("/recommend", {**asked, "explore": 0.5, "seed": 1, "now_ms": NOW_MS})[1]
    assert [each["items"] for each in again["users"]] == [each["items"] for each in answer["users"]]
    plain, none = (
        api.ask("/recommend", {**asked, **more, "now_ms": NOW_MS})[1] for more in ({}, {"explore": 0})
    )
    assert [each["items"] for each in plain["users"]] == [each["items"] for each in none["users"]]
    assert "explored" not in plain["users"][0]["items"][0]
    status, refused = api.ask("/recommend", {**asked, "explore": 1.5})
    assert (status, refused["error"]) == (422, "explore: Input should be less than or equal to 1")


def test_vector_of_any_user_id_and_not_before_it_knows_an_event(api: Api, stream: Stream) -> None:
    status, answer = api.ask(f"/vector/{quote(USER)}")
    assert (status, answer["user_id"], answer["reason"], answer["seq"]) == (200, USER, "", stream.offset)
    assert (len(answer["vec"]), len(answer["long"]), answer["n"]) == (16, 16, 12)
    assert answer["history"] == [f"i{number}" for number in range(2, 12)]
    behind = f"/vector/{quote(USER)}?epoch=7&offset={stream.offset + 1}&wait_s=0.01"
    assert api.ask(behind)[1]["reason"] == "behind"
    at_least = {"epoch": 7, "offset": stream.offset + 1}
    asked = {"users": [{"user_id": USER, "candidates": [], "at_least": at_least}]}
    assert api.ask("/rank", asked)[1]["users"][0]["reason"] == "behind"
    entry = {"user_id": USER, "candidates": []}
    known = {"epoch": 7, "offset": stream.offset}
    twice = {"users": [{**entry, "at_least": known}, {**entry, "at_least": at_least}, entry]}
    assert [each["reason"] for each in api.ask("/rank", twice)[1]["users"]] == ["", "behind", ""]
    stream.send(USER, 3, NOW_MS)
    assert api.ask(behind)[1]["reason"] == ""
    assert api.ask("/vector/nobody")[1]["reason"] == "cold_start"


def rank_one(**changes: object) -> dict[str, object]:
    return {"users": [{"user_id": "u", "candidates": ["i1"], **changes}]}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/rank", b"{", "body: it is no JSON at character 1"),
        ("/rank", b"", "body: Field required"),
        ("/rank", [1], "body: Input should be a valid dictionary"),
        ("/rank", {"users": []}, "users: List should have at least 1 item"),
        ("/rank", {"users": [{"user_id": "u"}]}, "users[0].candidates: Field required"),
        ("/rank", rank_one(user_id=""), "users[0].user_id: String should have at least 1 character"),
        (
            "/rank",
            rank_one(user_id="", candidates=[3]),
            "user_id: String should have at least 1 character (and 1",
        ),
        (
            "/rank",
            rank_one(candidates=["i1", 3]),
            "users[0].candidates[1]: Input should be a valid dictionary",
        ),
        ("/rank", rank_one(candidates=["\ud800"]), "candidates[0]: Input should be a valid string"),
        ("/rank", rank_one(candidates=["i"] * (MAX_CANDIDATES + 1)), f"at most {MAX_CANDIDATES} items"),
        ("/rank", rank_one(filtre="c1"), "users[0].filtre: Extra inputs are not permitted"),
        (
            "/rank",
            rank_one(at_least={"epoch": -1, "offset": 1}),
            "users[0].at_least.epoch: Input should be great",
        ),
        ("/rank", {**rank_one(), "now_ms": 10**30}, "now_ms: Input should be less than"),
        ("/rank", {**rank_one(), "wait_s": float("nan")}, "wait_s: Input should be a finite number"),
        (
            "/rank",
            {"users": [{"user_id": "u", "candidates": ["i"] * 5000}] * 11},
            f"body: 55000 candidates of all users together; at most {MAX_SCORED}",
        ),
        ("/recommend", {"users": [{"user_id": "u", "k": 0}]}, "users[0].k: Input should be greater than"),
        ("/recommend", {"users": [{"user_id": "u", "recall": 5000}] * 30}, "recall of all users together is"),
        ("/vector/", None, "user_id: String should have at least 1 character"),
        ("/vector/u?wait_s=inf", None, "wait_s: Input should be a finite number"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line_that_says_where(
    api: Api, path: str, body: object, said: str
) -> None:
    status, answer = api.ask(path, body)
    assert (status, list(answer)) == (422, ["error"])
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_too_large_a_body_is_refused_whether_its_length_is_said_or_not(api: Api) -> None:
    large = b"[" + b" " * MAX_BODY_BYTES
    said = api.http.post("/rank", content=large)
    unsaid = api.http.post("/rank", content=iter([large[: MAX_BODY_BYTES // 2]] * 4))
    for answer in (said, unsaid):
        assert (answer.status_code, "too large" in answer.json()["error"]) == (413, True)
    assert api.ask("/rank", rank_one())[0] == 200


def test_json_that_is_not_called_so_is_told_how_to_be(api: Api) -> None:
    answer = api.http.post("/rank", content=json.dumps(rank_one()), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    assert "send it as Content-Type: application/json" in answer.json()["error"]


def test_no_such_path_and_wrong_method_are_one_line(api: Api) -> None:
    assert api.ask("/nothing") == (404, {"error": "GET /nothing: Not Found"})
    assert api.ask("/rank") == (405, {"error": "GET /rank: Method Not Allowed"})


def test_failures_are_told_apart_and_counted(
    api: Api, stream: Stream, monkeypatch: pytest.MonkeyPatch, metric: Callable[..., float]
) -> None:
    before = metric("redis_errors_total")

    def failing(error: Exception) -> tuple[int, str]:
        def rank_many(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(api.ranker, "rank_many", rank_many)
        status, answer = api.ask("/rank", rank_one())
        return status, answer["error"]

    away = failing(redis.ConnectionError("Error 111\nconnecting"))
    assert away == (503, "Redis does not answer: Error 111 connecting")
    assert metric("redis_errors_total") == before + 1
    assert failing(TwintideError("ranker x failed")) == (500, "ranker x failed")
    broken = metric("requests_total", path="/rank", status="500")
    assert failing(KeyError("secret")) == (500, "KeyError: the log of this process has the rest")
    assert metric("requests_total", path="/rank", status="500") == broken + 1
    stream.store._client.flushdb()
    status, answer = api.ask("/vector/u")
    assert (status, answer["error"][:22]) == (503, "no model serves at twi")


def test_ready_is_who_is_warm_and_stays_so(
    api: Api, redis_client: redis.Redis, towers: Artifact, rankers: Path, metric: Callable[..., float]
) -> None:
    assert api.ask("/health/live")[0] == 200
    assert api.ask("/health/ready") == (503, {"status": "starting", "reason": "it is not warm yet"})
    redis_client.delete(f"twintide:models:{PREFIX}")
    api.keeper.step()
    assert "no model serves" in api.ask("/health/ready")[1]["reason"]
    api.keeper._registry.serve("0123456789ab", 1)
    failures = metric("load_failures_total")
    api.keeper.step()
    assert api.ask("/health/ready")[0] == 503
    assert metric("load_failures_total") == failures + 1
    api.keeper._registry.serve(towers.version, 2)
    api.keeper.step()
    assert api.ask("/health/ready") == (200, {"status": "ready", "reason": ""})
    assert metric("model_info", version=towers.version) == metric("ready") == 1
    redis_client.delete(f"twintide:models:{PREFIX}")
    api.keeper.step()
    assert api.ask("/health/ready")[0] == 200, "whoever is asked says 503 by itself"


def test_items_of_a_staged_model_are_loaded_before_it_serves_and_a_new_ranker_is_taken(
    redis_client: redis.Redis, store: Path, stream: Stream, tmp_path: Path, metric: Callable[..., float]
) -> None:
    first, _ = save_din(tmp_path, seed=3)
    now = [0.0]
    api = Api(redis_client, store, tmp_path)
    keeper = Keeper(ModelRegistry(redis_client, PREFIX), api.recommender, api.ranker, clock=lambda: now[0])
    staged = save_towers(store, seed=5)
    stream.store.registry.stage(staged.version, 2, partitions=1)
    second, _ = save_din(tmp_path, seed=4)
    keeper.step()
    assert list(api.recommender._loaded)[-1] == staged.version
    assert api.ranker.version == first, "it is not looked for each second"
    now[0] += 60
    keeper.step()
    keeper.step()
    assert api.ranker.version == second
    assert metric("ranker_info", version=second) == 1
    assert metric("ranker_info", version=first) == 0


@pytest.mark.parametrize("explain", [False, True])
def test_answers_are_what_is_described(api: Api, explain: bool) -> None:
    asked = {"users": [{"user_id": USER, "candidates": ["i1"]}, {"user_id": "nobody", "candidates": []}]}
    wishes = {"users": [{"user_id": USER}]}
    answers: list[tuple[Any, type[BaseModel]]] = [
        (api.ask("/rank", {**asked, "explain": explain})[1], RankAnswer),
        (api.ask("/recommend", {**wishes, "explain": explain})[1], RankAnswer),
        (api.ask(f"/vector/{quote(USER)}")[1], VectorAnswer),
    ]
    for answer, model in answers:
        described = model.model_validate(answer).model_dump(exclude_none=True)
        assert described == answer


def test_what_may_be_asked_is_described(api: Api) -> None:
    status, described = api.ask("/openapi.json")
    assert (status, {"/rank", "/recommend", "/vector/{user_id}"} <= set(described["paths"])) == (200, True)
    assert {"200", "422", "503"} <= set(described["paths"]["/rank"]["post"]["responses"])
    text = api.http.get("/metrics").text
    assert 'twintide_serving_users_total{reason="stale"}' in text
    assert 'twintide_serving_recommended_items_total{items="new"}' in text
    assert USER not in text


def test_port_that_is_taken_is_one_line_and_answers_do_not_wait_for_more_to_send() -> None:
    with _listen("127.0.0.1", free_port()) as listening:
        assert listening.proto == socket.IPPROTO_TCP, "asyncio turns off Nagle's algorithm for these alone"
        listening.listen()
        port = listening.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"TWINTIDE_SERVING_PORT {port}: nothing can listen there \("
        ):
            _listen("127.0.0.1", port)
    with pytest.raises(SettingsError, match="TWINTIDE_SERVING_HOST no such host"):
        _listen("no such host", port)
