"""The page's files and JSON over HTTP: right for sound users, plain for odd ones, shut to strangers."""

import hashlib
import json
import re
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest

from models.artifact.artifact import Artifact
from models.windows.histories import histories_of_windows
from models.windows.window import MAX_ID_BYTES
from stream.encoding.live_models import LiveModels
from stream.explain.page import FILES, STATIC
from stream.kafka.partitioner import partition_of
from stream.windows.partition import DirtyUser
from tests.stream.explain.conftest import ELSEWHERE, HELD, ODD_USERS, PARTITIONS, App, window_of

pytestmark = pytest.mark.integration

HERE = next(f"user {n}" for n in range(10) if partition_of(f"user {n}".encode(), PARTITIONS) in HELD)
THERE = next(f"user {n}" for n in range(10) if partition_of(f"user {n}".encode(), PARTITIONS) not in HELD)

#: SHA-256 of the files of uPlot 1.6.32 as npm's package has them, whose integrity is
#: sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==
VENDORED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def get(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, Any, bytes]:
    """Return status, headers and body."""
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def user(url: str, user_id: str, what: str = "user") -> dict[str, Any]:
    """Return what is answered of a user."""
    status, _, body = get(f"{url}api/{what}?{urlencode({'id': user_id})}")
    assert status == 200, body
    return dict(json.loads(body))


def test_user_of_this_worker_is_explained(url: str, artifact: Artifact) -> None:
    found = user(url, HERE)
    assert (found["where"], found["partitions"], found["is_waiting"]) == ("here", PARTITIONS, False)
    events = found["window"]["events"]
    assert [event["session"] for event in events] == [1 + n // 10 for n in range(40)]
    assert [event["behaviour"] for event in events[:4]] == ["view", "favourite", "cart", "buy"]
    assert [event["is_known"] for event in events] == [n % 9 != 8 for n in range(40)]
    vector = found["vector"]
    assert (vector["model"], vector["reason"], vector["events"]) == (artifact.version, "", 40)
    assert (vector["offset"], vector["event_ms"]) == (100, events[-1]["time_ms"])
    assert 0 <= vector["age_s"] < 120
    assert found["difference"] < 1e-5
    weights = found["weights"]
    assert list(weights) == ["influence", "direct", "short", "long"]
    assert all(len(values) == 40 for values in weights.values())
    assert sum(weights["short"]) == pytest.approx(1, abs=1e-3)


def test_nearest_items_are_those_of_the_vector(url: str, artifact: Artifact) -> None:
    found = user(url, HERE, "items")
    vector = artifact.encode(histories_of_windows([window_of(HERE)], artifact.vocabulary)).user[0]
    best = np.argsort(-(artifact.item_vectors @ vector))[:10]
    assert [item["item_id"] for item in found["items"]] == [artifact.item_ids[row] for row in best]
    assert found["of"] == 40


def test_user_of_another_worker_has_a_vector_and_is_said_to_be_elsewhere(url: str) -> None:
    found = user(url, THERE)
    assert (found["where"], found["worker"], found["window"]) == ("elsewhere", ELSEWHERE, None)
    assert (found["vector"]["reason"], found["vector"]["events"]) == ("", 40)
    assert len(user(url, THERE, "items")["items"]) == 10


@pytest.mark.parametrize("user_id", ODD_USERS, ids=range(len(ODD_USERS)))
def test_odd_ids_are_users_like_others(url: str, user_id: str) -> None:
    found = user(url, user_id)
    assert found["user_id"] == user_id
    assert found["vector"]["reason"] == ""
    assert (found["window"] is not None) == (found["partition"] in HELD)


def test_raw_utf8_and_unknown_users_are_answered(url: str) -> None:
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    assert user(url, "nobody")["vector"]["reason"] == "cold_start"
    found = user(url, "nobody")
    assert found["window"] is None and "weights" not in found
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall("GET /explain/api/user?id=ü€ HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = raw.makefile("rb").read()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["user_id"] == "ü€"


@pytest.mark.parametrize(
    "query",
    ["", "?id=", "?name=u", "?id=a&id=b", "?id=%ff", "?id=%ed%a0%80", f"?id={'x' * (MAX_ID_BYTES + 1)}"],
    ids=range(7),
)
def test_what_is_no_user_id_gets_one_plain_line(url: str, query: str) -> None:
    for what in ("user", "items"):
        status, _, body = get(f"{url}api/{what}{query}")
        assert status in (400, 414)
        assert status == 414 or (body.count(b"\n") == 1 and b"user id" in body)


def test_waiting_events_are_said_and_nothing_is_claimed_of_the_vector(url: str, app: App) -> None:
    partition = app.assignments.current.partitions[partition_of(HERE.encode(), PARTITIONS)]
    partition.dirty[HERE] = DirtyUser(101, 1, [])
    found = user(url, HERE)
    assert (found["is_waiting"], found["difference"]) == (True, None)


def test_worker_between_two_assignments_says_that_nobody_has_the_partition(url: str, app: App) -> None:
    app.assignments.current.end()
    found = user(url, HERE)
    assert (found["where"], found["window"], found["vector"]["reason"]) == ("nobody", None, "")


def test_redis_that_is_down_and_a_model_that_is_not_loaded_leave_the_window(
    url: str, app: App, live_models: LiveModels
) -> None:
    live_models.keep(())
    found = user(url, HERE)
    assert len(found["window"]["events"]) == 40 and "weights" not in found
    assert "has not loaded" in user(url, HERE, "items")["why_not"]
    live_models.store.registry._client.flushall()
    found = user(url, HERE)
    assert found["vector"] is None and "no model serves" in found["no_vector"]


def test_worker_that_keeps_windows_alone_shows_them(url: str, app: App) -> None:
    app.settings, app.parts.live_models = replace(app.settings, encode=False), None
    found = user(url, HERE)
    assert (len(found["window"]["events"]), found["vector"]) == (40, None)
    assert "keeps windows alone" in found["no_vector"] and "weights" not in found
    assert user(url, HERE, "items")["items"] == []


def test_live_answers_with_health_and_dead_letters(url: str) -> None:
    status, headers, body = get(f"{url}api/live")
    found = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert (found["health"]["status"], found["window_partitions"]) == ("ready", PARTITIONS)
    assert set(found["series"]) == {"time_s", "events_per_s", "p50_ms", "p99_ms"}


def test_every_file_is_sent_with_a_strict_policy_and_asks_no_other_host(url: str) -> None:
    for path, (name, kind) in FILES.items():
        status, headers, body = get(url.rstrip("/") + path)
        assert (status, headers["Content-Type"], body) == (200, kind, (STATIC / name).read_bytes())
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    sent = {name for name, _ in FILES.values()} | {"vendor/LICENSE"}
    assert sent == {str(each.relative_to(STATIC)) for each in STATIC.rglob("*") if each.is_file()}
    ours = "".join((STATIC / name).read_text() for name in sent if not name.startswith("vendor/"))
    assert set(re.findall(r"https?://[^\"'\s>]+", ours)) == {"http://www.w3.org/2000/svg"}  # a namespace
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", ours)
    assert not re.findall(r"\bstyle=|\son\w+=|<script(?! src)|<style", ours)


def test_vendored_files_are_those_of_the_package() -> None:
    found = {name: hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() for name in VENDORED}
    assert found == VENDORED


def test_other_paths_and_methods_are_refused(url: str) -> None:
    base = url.rstrip("/")
    for path in ("/nothing", "/../page.py", "/api/", "/static/page.js", "/%2e%2e/page.py", "/vendor/LICENSE"):
        assert get(base + path)[0] == 404
    assert get(f"{base}/api/live", method="POST")[0] == 405
    assert get(f"{base}/api/live", method="HEAD")[2] == b""
    assert get(base.removesuffix("/explain") + "/explainer")[0] == 404
    assert get(base)[2] == (STATIC / "index.html").read_bytes()  # redirected


def test_strangers_are_refused_and_a_token_lets_in(url: str, guarded_url: str) -> None:
    status, _, body = get(f"{url}api/live", {"Host": "rebound.example"})
    assert (status, b"TWINTIDE_EXPLAIN_TOKEN" in body) == (403, True)
    assert get(guarded_url)[0] == 200
    for path in ("api/live", f"api/user?id={quote(HERE)}", "nothing"):
        status, headers, _ = get(guarded_url + path, {"Authorization": "Bearer 0123456789abcdeX"})
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert get(f"{guarded_url}api/live", {"Authorization": "Bearer 0123456789abcdef"})[0] == 200


def test_who_connects_and_says_nothing_holds_up_nobody(url: str) -> None:
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    with socket.create_connection((host, int(port))), socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"GET /explain/api/li")
        assert get(url.removesuffix("explain/") + "health")[0] == 200
        assert get(f"{url}api/live")[0] == 200


def test_what_fails_is_one_line_and_metrics_are_still_answered(
    url: str, app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "owners", lambda: 1 / 0)
    status, _, body = get(f"{url}api/user?id=u")
    assert (status, body.count(b"\n"), b"Traceback" in body) == (500, 1, False)
    assert "could not answer" in caplog.text
    assert get(url.removesuffix("explain/") + "metrics")[0] == 200
