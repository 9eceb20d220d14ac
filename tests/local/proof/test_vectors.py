"""Vectors in Redis against the windows they should be of."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from local.proof.findings import Apart, Findings
from local.proof.live_vectors import LiveVectors, StoredVectors
from local.proof.vectors import VectorCheck
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from models.windows.histories import histories_of_cold_start, histories_of_windows
from models.windows.recent import recent_of_window
from models.windows.window import Window, read_offset, window_from_bytes, window_to_bytes
from stream.settings import Settings
from stream.store.registry_state import ChangeProgress, LiveModel, Models
from stream.store.vectors import vector_to_bytes
from tests.local.proof.world import World, event, forget

EPOCH = 7

#: An event that nobody had.
OTHER_HISTORY = recent_of_window(window_to_bytes(Window("", 0, 0, 1, 0, 0, [1], [1], ["x"], [""], [1])), 1)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    torch.manual_seed(0)
    vocabulary = Vocabulary([f"i{item}" for item in range(5)], [2, 3, 2, 3, 2], ["c0", "c1"])
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    return artifacts.save(tmp_path_factory.mktemp("store"), towers, vocabulary, settings, {}, {})


def models(serving: str, staged: str = "", previous: str = "", coverage: float = 1.0) -> Models:
    """Return which models are live, numbered in this order."""
    return Models(
        serving=LiveModel(serving, 1),
        staged=LiveModel(staged, 2) if staged else None,
        previous=LiveModel(previous, 2) if previous else None,
        latest=2,
        generation=1,
        switched_at_ms=0,
        partitions=2,
        coverage=coverage,
    )


def stored(
    artifact: Artifact, window: bytes, vector_format: str = "float32", **changes: Any
) -> StoredVectors:
    """Return what a worker stores of a window."""
    made = artifact.encode(histories_of_windows([window], artifact.vocabulary))
    content = window_from_bytes(window)
    vec, long, short = (
        vector_to_bytes(vector[0], vector_format) for vector in (made.user, made.long, made.short)
    )
    written = StoredVectors(
        *(EPOCH, read_offset(window), content.times_ms[-1], len(content), vector_format),
        *(vec, long, short, recent_of_window(window, 2)),
    )
    return msgspec.structs.replace(written, **changes)


def check(
    world: World,
    live: Models,
    users: Mapping[bytes, Mapping[str, StoredVectors]],
    *loaded: Artifact,
    settings: Settings | None = None,
    to_backfill: frozenset[int] = frozenset(),
) -> tuple[str, dict[Apart, int], VectorCheck]:
    """Return what is found of vectors, once the windows were; and what has compared them."""
    windows = world.check({key: each.seq for key, slots in users.items() for each in slots.values()})
    assert world.findings.complaint == ""
    findings = Findings()
    redis = LiveVectors(live, ChangeProgress(to_backfill=to_backfill), EPOCH, users)
    vectors = VectorCheck(
        settings or Settings(),
        world.extent.events.ends,
        redis,
        {each.version: each for each in loaded},
        findings,
    )
    for key, user in world.expected.users.items():
        vectors.check(key, user, windows.check(key, user))
    vectors.finish()
    return findings.complaint, dict(findings.apart), vectors


def world_of_two() -> tuple[World, dict[bytes, bytes]]:
    world = World([event(0), event(1), event(2, "v"), event(3, "v")])
    windows = world.worker(4)
    world.store(windows)
    return world, windows


@pytest.mark.parametrize("vector_format", ["float32", "float16", "int8"])
def test_what_a_worker_writes_is_right_in_every_format(artifact: Artifact, vector_format: str) -> None:
    world, windows = world_of_two()
    users = {
        key: {artifact.version: stored(artifact, value, vector_format)} for key, value in windows.items()
    }
    complaint, apart, found = check(world, models(artifact.version), users, artifact)
    assert (complaint, apart, found.users) == ("", {}, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vec": np.zeros(16, np.float32).tobytes()}, "Redis has a wrong vec of model"),
        ({"long": np.full(16, np.nan, np.float32).tobytes()}, "Redis has a wrong long of model"),
        ({"vec": np.zeros(8, np.float32).tobytes()}, "Redis has a wrong vec of model"),
        ({"vec": b"", "short": b""}, "Redis has no vec and no short of model"),
        ({"n": 5}, "Redis says 5 events"),
        ({"ts": 1}, "the newest at 1 ms"),
        ({"history": b"\1damaged"}, "the history in Redis is wrong"),
        ({"history": OTHER_HISTORY}, "the history in Redis is wrong"),
        ({"seq": 2}, "has events up to offset 3 of partition 0, and the vector in Redis knows them up to 2"),
        ({"epoch": EPOCH - 1}, "has events up to offset 3"),
    ],
)
def test_whatever_is_altered_is_found_and_names_the_user(
    artifact: Artifact, changes: dict[str, Any], said: str
) -> None:
    world, windows = world_of_two()
    users = {key: {artifact.version: stored(artifact, value)} for key, value in windows.items()}
    users[b"v"] = {artifact.version: stored(artifact, windows[b"v"], **changes)}
    complaint, _, _ = check(world, models(artifact.version), users, artifact)
    assert complaint.startswith("user 'v': ")
    assert said in complaint


def test_expired_vectors_are_not_wrong_where_vectors_expire(artifact: Artifact) -> None:
    world, windows = world_of_two()
    half = stored(artifact, windows[b"v"], vec=b"", short=b"")
    users = {b"u": {}, b"v": {artifact.version: half}}
    settings = Settings(ttl_s=60, short_ttl_s=30)
    complaint, apart, found = check(world, models(artifact.version), users, artifact, settings=settings)
    assert (complaint, apart, found.users) == ("", {Apart.EXPIRED: 1}, 1)


def test_vectors_may_be_ahead_of_what_is_committed(artifact: Artifact) -> None:
    world = World([event(0), event(1), event(2), event(3)], committed=2)
    world.store(world.worker(3))
    users = {b"u": {artifact.version: stored(artifact, world.worker(4)[b"u"])}}
    complaint, _, _ = check(world, models(artifact.version), users, artifact)
    assert complaint == ""
    world = World([event(0), event(1), event(2), event(3)], committed=2)
    world.store(world.worker(3))
    other = {b"u": {artifact.version: stored(artifact, world.worker(3)[b"u"], seq=3)}}
    complaint, _, _ = check(world, models(artifact.version), other, artifact)
    assert complaint.startswith("user 'u': Redis says 3 events")


def test_forgotten_user_has_no_vector(artifact: Artifact) -> None:
    world = World([event(0), forget(1)])
    before = world.worker(1)[b"u"]
    live = models(artifact.version)
    assert check(world, live, {b"u": {}}, artifact)[0] == ""
    complaint, _, _ = check(world, live, {b"u": {artifact.version: stored(artifact, before)}}, artifact)
    assert complaint.startswith("user 'u': was forgotten up to offset 1")
    complaint, _, _ = check(
        world, live, {b"u": {artifact.version: stored(artifact, before, seq=1)}}, artifact
    )
    assert complaint == "user 'u': was forgotten, and Redis has a vector"


def test_serving_and_previous_model_must_have_every_user_and_a_staged_one_need_not(
    artifact: Artifact,
) -> None:
    world, windows = world_of_two()
    of_other = {key: {"other": stored(artifact, value)} for key, value in windows.items()}
    second = replace(artifact, version="other")
    complaint, _, _ = check(world, models(artifact.version), of_other, artifact, second)
    assert complaint == f"user 'u': Redis has no vector of model {artifact.version} (1 more differ)"
    complaint, _, _ = check(world, models("other", previous=artifact.version), of_other, artifact, second)
    assert complaint.startswith("user 'u': Redis has no vector of model")
    complaint, apart, found = check(
        world, models("other", staged=artifact.version), of_other, artifact, second
    )
    assert (complaint, apart, found.users) == ("", {Apart.NOT_WRITTEN_YET: 2}, 2)
    early = models(artifact.version, previous="other", coverage=0.5)
    assert check(world, early, of_other, artifact, second)[:2] == ("", {Apart.NOT_WRITTEN_YET: 2})
    nothing: dict[bytes, dict[str, StoredVectors]] = {b"u": {}, b"v": {}}
    being_written = check(world, models(artifact.version), nothing, artifact, to_backfill=frozenset({0}))
    assert being_written[:2] == ("", {Apart.NOT_WRITTEN_YET: 2})


def test_window_that_cannot_be_proved_is_still_what_its_vector_is_of(artifact: Artifact) -> None:
    records = [event(0, time=4_990), event(1), event(2)]
    cases: list[tuple[dict[str, Any], str, dict[Apart, int]]] = [
        ({}, "", {}),
        ({"seq": 1}, "", {}),  # what came after was a duplicate
        ({"seq": 9}, "", {Apart.WITHOUT_WINDOW: 1}),
        ({"n": 9}, "user 'u': Redis says 9 events", {}),
    ]
    for written, complaint, apart in cases:
        world = World(records, first=1)
        world.store(world.worker(3))
        users = {b"u": {artifact.version: stored(artifact, world.worker(3)[b"u"], **written)}}
        found, set_apart, _ = check(world, models(artifact.version), users, artifact)
        assert found.startswith(complaint)
        assert bool(found) == bool(complaint)
        assert set_apart == apart


def test_events_that_a_worker_knew_from_elsewhere_make_no_vector_late(artifact: Artifact) -> None:
    records = [
        event(0, event_id="once"),
        event(1, event_id="once"),
    ]  # the first is cut off, the second a duplicate
    world = World(records, first=1)
    window = world.worker(2)[b"u"]
    world.store({b"u": window})
    users = {b"u": {artifact.version: stored(artifact, window, seq=0)}}
    complaint, _, found = check(world, models(artifact.version), users, artifact)
    assert (complaint, found.users) == ("", 1)


def cold_start(artifact: Artifact, category: str) -> StoredVectors:
    made = artifact.encode(histories_of_cold_start([category], artifact.vocabulary))
    vec, long, short = (vector[0].tobytes() for vector in (made.user, made.long, made.short))
    return StoredVectors(0, 0, 0, 0, "float32", vec, long, short, b"")


def test_cold_start_users_are_compared_at_every_category(artifact: Artifact) -> None:
    world, windows = world_of_two()
    users = {key: {artifact.version: stored(artifact, value)} for key, value in windows.items()}
    right = {each: {artifact.version: cold_start(artifact, each)} for each in ("", "c0", "c1")}

    def found(rows: Mapping[str, Mapping[str, StoredVectors]]) -> tuple[str, dict[Apart, int]]:
        _, _, vectors = check(world, models(artifact.version), users, artifact)
        vectors.check_cold_start(artifact.version, rows)
        return vectors.findings.complaint, dict(vectors.findings.apart)

    assert found(right) == ("", {})
    assert found(right | {"c1": {}}) == ("", {Apart.CATEGORY_NOT_WRITTEN: 1})
    assert found(right | {"": {}})[0].startswith("cold-start users: Redis has no vector of model")
    mixed_up = right | {"c0": {artifact.version: cold_start(artifact, "c1")}}
    assert found(mixed_up)[0].startswith("cold-start users at category 'c0': Redis has a wrong")
