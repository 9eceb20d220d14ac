"""Export into a real Redis: the HASH that the worker writes, and the original's JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
import redis
from click.testing import CliRunner

from models.artifact.artifact import load
from models.log.behaviour_log import read_behaviour_log
from offline import export, train
from offline.exporting.users import cold_start_user, encode_log
from stream.serving.reader import Reader
from stream.store.connection import RedisConnection
from stream.store.vectors import vector_from_bytes


def stored_vector(client: redis.Redis, user_id: str) -> np.ndarray:
    """Return the vector of a user's HASH."""
    value = client.hget(f"user:{user_id}", "vec")
    assert isinstance(value, bytes)
    return vector_from_bytes(value, "float32")


def trained(walk_csv: Path, store: Path, config: str) -> list[str]:
    """Train for an epoch into a store, and return what names the log to a command."""
    (store / "c.toml").write_text(config)
    paths = ["--data-path", str(walk_csv)]
    asked = [*paths, "--save-dir", str(store), "--epochs", "1", "--config", str(store / "c.toml")]
    made = CliRunner().invoke(train.main, asked)
    assert made.exit_code == 0, made.output
    return paths


@pytest.mark.parametrize("to", ["redis", "json"])
def test_every_user_and_the_cold_start_user_are_written(
    to: str,
    walk_csv: Path,
    tmp_path: Path,
    redis_connection: RedisConnection,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_connection.url)
    paths = trained(walk_csv, tmp_path, "dimension = 16\n")
    found = CliRunner().invoke(export.main, [*paths, "--artifact", str(tmp_path), "--to", to])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("61 users of model ")
    artifact = load(tmp_path)
    users = encode_log(artifact, read_behaviour_log(walk_csv))
    for row, user_id in enumerate(users.user_ids):
        if to == "json":
            stored = np.array(json.loads(redis_client.get(user_id) or "[]"))
        else:
            stored = stored_vector(redis_client, user_id)
        np.testing.assert_allclose(stored, users.vectors.user[row], atol=1e-6)
    if to == "redis":
        assert redis_client.hget("user:", "model") == artifact.version.encode()
        cold_start = stored_vector(redis_client, "")
        np.testing.assert_allclose(cold_start, cold_start_user(artifact).user[0], atol=1e-6)
        reader = Reader(redis_client)
        read = [reader.read(["nobody"], category)[0] for category in artifact.vocabulary.category_ids]
        assert {each.reason for each in read} == {"category"}


def test_only_the_keys_of_this_deployment_are_written_as_its_settings_say(
    walk_csv: Path,
    tmp_path: Path,
    redis_connection: RedisConnection,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two deployments may share a Redis: exporting for one must not touch the other's users, or its model."""
    monkeypatch.setenv("REDIS_URL", redis_connection.url)
    monkeypatch.setenv("TWINTIDE_KEY_PREFIX", "second:")
    monkeypatch.setenv("TWINTIDE_VECTOR_FORMAT", "float16")
    paths = trained(walk_csv, tmp_path, "dimension = 16\nfinal_fit = false\n")
    found = CliRunner().invoke(export.main, [*paths, "--artifact", str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert not redis_client.keys("user:*")
    assert len(redis_client.hget("second:user#1", "vec") or b"") == 2 * 16
    (vectors,) = Reader(redis_client, key_prefix="second:").read(["user#1"])
    assert vectors.model == load(tmp_path).version
    monkeypatch.setenv("TWINTIDE_KEY_PERFIX", "third:")
    found = CliRunner().invoke(export.main, [*paths, "--artifact", str(tmp_path)])
    assert (found.exit_code, "TWINTIDE_KEY_PERFIX is no setting" in found.stderr) == (2, True)


def test_directory_without_the_format_that_needs_it_writes_nothing_into_redis(tmp_path: Path) -> None:
    found = CliRunner().invoke(export.main, ["--artifact", str(tmp_path), "--out", str(tmp_path / "vectors")])
    assert found.exit_code == 2
    assert "--out is for --to parquet, and --to redis writes into Redis" in found.stderr


def test_redis_that_does_not_answer_is_one_line(
    walk_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1")
    (tmp_path / "c.toml").write_text("dimension = 16\n")
    arguments = ["--data-path", str(walk_csv)]
    CliRunner().invoke(
        train.main,
        [*arguments, "--save-dir", str(tmp_path), "--epochs", "1", "--config", str(tmp_path / "c.toml")],
    )
    found = CliRunner().invoke(export.main, [*arguments, "--artifact", str(tmp_path)])
    assert found.exit_code == 1
    assert "no Redis at redis://localhost:1" in found.stderr
