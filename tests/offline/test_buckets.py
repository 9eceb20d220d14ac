"""The commands on artifacts in a bucket: train into it, read from it, publish in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from local.object_storage import ObjectStorageServer
from local.servers import ROOT
from models.artifact.artifact import load
from models.artifact.bucket import Bucket
from models.artifact.stores import is_there, open_store
from models.artifact.version_cache import VersionCache
from models.location import BucketUrl
from offline import evaluate, export, publish, report, train
from stream.store.connection import RedisConnection
from stream.store.model_registry import ModelRegistry

pytestmark = pytest.mark.integration

PREFIX = "test-buckets:"


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command.main, [str(each) for each in arguments])  # type: ignore[attr-defined]


def train_into(store: object, log: Path, seed: int = 1) -> Result:
    return run(train, "--data-path", log, "--save-dir", store, "--epochs", 1, "--seed", seed)


@pytest.fixture
def workers(
    bucket: BucketUrl, redis_connection: RedisConnection, redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> ModelRegistry:  # fmt: skip
    """Give the registry of workers who follow the bucket."""
    monkeypatch.setenv("TWINTIDE_ARTIFACT", str(bucket))
    monkeypatch.setenv("TWINTIDE_KEY_PREFIX", PREFIX)
    monkeypatch.setenv("REDIS_URL", redis_connection.url)
    registry = ModelRegistry(redis_client, PREFIX)
    redis_client.delete(registry.key)
    return registry


def test_a_host_trains_and_others_read(bucket: BucketUrl, walk_csv: Path, tmp_path: Path) -> None:
    done = train_into(bucket, walk_csv)
    assert done.exit_code == 0, done.output
    active = open_store(bucket).current()
    assert f"artifact {bucket}/{active.version}\n" in done.stdout
    assert f"version {active.version}, publication {active.number}" in done.stdout
    shutil.rmtree(VersionCache().home)  # another host
    found = run(evaluate, "--artifact", bucket, "--data-path", walk_csv)
    assert found.exit_code == 0, found.output
    held_out = load(bucket).training["held_out_version"]  # what is published has learned these rows
    assert f"model {held_out}" in found.stdout
    to = ("--to", "parquet", "--out", tmp_path / "out")
    assert run(export, "--artifact", bucket / "current", "--data-path", walk_csv, *to).exit_code == 0
    page = run(report, "--artifact", bucket / active.version, "--out", tmp_path / "page.html")
    assert page.exit_code == 0, page.output


def test_bucket_that_refuses_is_said_before_a_training_begins(
    bucket: BucketUrl, walk_csv: Path, object_storage: ObjectStorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_storage.environment("reader").items():
        monkeypatch.setenv(name, value)
    done = train_into(bucket, walk_csv)
    assert done.exit_code == 1
    assert "epoch" not in done.stdout
    assert done.stderr.splitlines()[-1].startswith(f"Error: {bucket}/store.txt is refused (AccessDenied")


def test_artifact_of_this_host_is_uploaded_and_published_and_taken_back(
    bucket: BucketUrl, walk_csv: Path, tmp_path: Path, workers: ModelRegistry
) -> None:
    assert train_into(bucket, walk_csv).exit_code == 0
    first = open_store(bucket).current()
    assert train_into(tmp_path / "artifacts", walk_csv, seed=2).exit_code == 0
    second = load(tmp_path / "artifacts")
    done = run(publish, second.path)
    assert done.exit_code == 0, done.output
    active = open_store(bucket).current()
    assert done.stdout == f"published: model={second.version} publication={active.number}\n"
    assert (active.version, active.number > first.number) == (second.version, True)
    shutil.rmtree(VersionCache().home)
    assert load(bucket).version == second.version
    workers.serve(first.version, first.number)
    workers.serve(second.version, active.number)
    back = run(publish, "--rollback")
    assert back.exit_code == 0, back.output
    assert open_store(bucket).current().version == first.version


@pytest.mark.parametrize("name", ["artifacts", "artifacts/current"])
def test_first_publication_makes_the_store(
    bucket: BucketUrl, walk_csv: Path, tmp_path: Path, workers: ModelRegistry,
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TWINTIDE_ARTIFACT", f"{bucket.parent}/{name}")
    assert train_into(tmp_path / "artifacts", walk_csv).exit_code == 0
    assert not is_there(bucket / "current")
    done = run(publish, tmp_path / "artifacts")
    assert done.exit_code == 0, done.output
    assert is_there(bucket / "current")
    assert open_store(bucket).current().version == load(tmp_path / "artifacts").version


@pytest.mark.parametrize("name", ["best", "0123456789ab"])
def test_one_artifact_by_itself_has_no_publications(
    bucket: BucketUrl, walk_csv: Path, tmp_path: Path, workers: ModelRegistry,
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    assert train_into(tmp_path / "artifacts", walk_csv).exit_code == 0
    for file in load(tmp_path / "artifacts").path.iterdir():
        Bucket(bucket / name).upload(file.name, file)
    monkeypatch.setenv("TWINTIDE_ARTIFACT", str(bucket / name))
    refused = run(publish, tmp_path / "artifacts")
    assert refused.exit_code == 2
    assert f"TWINTIDE_ARTIFACT is {bucket / name}, one artifact by itself" in refused.stderr


def test_trainer_of_the_deployment_trains_once(bucket: BucketUrl, walk_csv: Path) -> None:
    command = ["sh", str(ROOT / "deploy" / "train.sh"), str(walk_csv), str(bucket)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    first, second = (
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        for _ in range(2)
    )
    assert (first.returncode, "publication" in first.stdout) == (0, True), first.stderr
    assert (second.returncode, second.stdout) == (0, "")
    assert "current is there" in second.stderr


def test_turned_copy_is_put_into_the_bucket(
    bucket: BucketUrl, walk_csv: Path, workers: ModelRegistry
) -> None:
    versions = []
    for seed in (1, 2):
        assert train_into(bucket, walk_csv, seed).exit_code == 0
        versions.append(open_store(bucket).current().version)
    workers.serve(versions[0], 1)
    done = run(publish, bucket / versions[1], "--rotate")
    assert done.exit_code == 0, done.output
    shutil.rmtree(VersionCache().home)
    turned = load(bucket)
    assert turned.training["rotated_onto"] == versions[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s3://KEY:hush@shop/artifacts", "must hold no credentials"),
        ("http://shop/artifacts", "is no place for artifacts"),
        ("s3://", "is no place for artifacts"),
    ],
)
def test_url_that_makes_no_sense_is_wrong_usage(given: str, message: str, walk_csv: Path) -> None:
    for command, option in ((evaluate, "--artifact"), (train, "--save-dir")):
        refused = run(command, option, given, "--data-path", walk_csv)
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert "hush" not in refused.output


def test_no_artifact_there_is_one_line(bucket: BucketUrl, walk_csv: Path) -> None:
    refused = run(evaluate, "--artifact", bucket, "--data-path", walk_csv)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith(f"Error: there is no artifact at {bucket}: ")
