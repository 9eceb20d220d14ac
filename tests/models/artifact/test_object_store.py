"""A store of artifacts in a bucket, on a real S3-compatible server."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from local.object_storage import ObjectStorageServer
from local.ports import free_port
from models.artifact.artifact import Artifact, load, publish, save
from models.artifact.bucket import Bucket
from models.artifact.files import CHECKSUMS, FILES
from models.artifact.item_vectors import load_item_vectors
from models.artifact.object_store import PUBLICATIONS, REMEMBERED, ObjectStore
from models.artifact.publications import OvertakenError
from models.artifact.settings import ArtifactSettings
from models.artifact.stores import is_artifact, is_there, open_store, read_version, store_of
from models.artifact.version_cache import VersionCache
from models.errors import ArtifactError, SettingsError, UnreachableError
from models.ids.vocabulary import Vocabulary
from models.location import BucketUrl, Location
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings

pytestmark = pytest.mark.integration


def make(store: Location, seed: int = 0, items: int = 20) -> Artifact:
    vocabulary = Vocabulary([f"i{number}" for number in range(items)], [2] * items, ["c"])
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    torch.manual_seed(seed)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return save(store, towers, vocabulary, settings, {}, {"seed": seed})


def forget_cache() -> None:
    """Have this host know no artifact: what is read then comes from the bucket."""
    shutil.rmtree(VersionCache().home)


def put(url: BucketUrl, name: str, content: bytes) -> None:
    Bucket(url).upload(name, content)


@pytest.fixture
def silent_server(object_storage: ObjectStorageServer) -> Iterator[None]:
    """Have the server accept connections and answer nothing."""
    assert object_storage.process.pid
    process = psutil.Process(object_storage.process.pid)
    stopped = [process, *process.children(recursive=True)]
    for each in stopped:
        each.send_signal(signal.SIGSTOP)
    yield
    for each in stopped:
        each.send_signal(signal.SIGCONT)


def test_artifact_comes_back_as_it_was(bucket: BucketUrl) -> None:
    saved = make(bucket)
    number = publish(bucket, saved.version)
    forget_cache()
    for where in (bucket, bucket / "current", bucket / saved.version):
        again = load(where)
        assert (again.version, again.publication) == (saved.version, number)
        np.testing.assert_array_equal(again.item_vectors, saved.item_vectors)
        again.check_golden()
        assert read_version(where) == saved.version
    np.testing.assert_array_equal(load_item_vectors(bucket).vectors, saved.item_vectors)


def test_artifact_under_any_name_is_one_by_itself(bucket: BucketUrl) -> None:
    saved = make(bucket)
    for name in (*FILES, CHECKSUMS):
        put(bucket / "best", name, (saved.path / name).read_bytes())
    forget_cache()
    assert load(bucket / "best").version == saved.version
    assert (store_of(bucket / "best"), is_artifact(bucket / "best")) == (None, True)


def test_numbers_grow_and_a_version_keeps_its_last_one(bucket: BucketUrl, tmp_path: Path) -> None:
    for store in (open_store(bucket), open_store(tmp_path / "store")):
        old, new = make(store.where, 1), make(store.where, 2)
        assert store.publication_of(old.version) == 0
        numbers = [store.publish(each.version) for each in (old, new, old)]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 1_700_000_000_000  # the time, so that a copy left behind is older
        assert (store.current().version, store.current().number) == (old.version, numbers[2])
        assert store.publication_of(new.version) == numbers[1]


def test_publishers_at_the_same_time_all_get_a_number_of_their_own(bucket: BucketUrl) -> None:
    versions = [make(bucket, seed).version for seed in range(2)]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda each: ObjectStore(bucket).publish(versions[each % 2]), range(16)))
    assert len(set(numbers)) == 16
    store = ObjectStore(bucket)
    assert store.current().number == max(numbers)
    assert store.current().version == versions[numbers.index(max(numbers)) % 2]


def test_publication_replaces_only_what_it_says(bucket: BucketUrl) -> None:
    made, store = [make(bucket, seed) for seed in range(2)], ObjectStore(bucket)
    store.publish(made[0].version)
    first = store.current()
    store.publish(made[1].version, instead_of=first)
    with pytest.raises(OvertakenError, match="somebody else has published"):
        store.publish(made[0].version, instead_of=first)
    assert store.current().version == made[1].version


def test_a_write_that_somebody_was_faster_than_changes_nothing(bucket: BucketUrl) -> None:
    objects = Bucket(bucket)
    assert objects.write("one", b"first", None)
    assert not objects.write("one", b"second", None)
    seen = objects.read("one")
    assert seen is not None
    assert objects.write("one", b"third", seen.tag)
    assert not objects.write("one", b"fourth", seen.tag)
    found = objects.read_unless("one", seen)
    assert found is not None
    assert found.data == b"third"
    assert objects.read_unless("one", found) is found


def test_publication_whose_answer_was_lost_is_not_made_twice(
    bucket: BucketUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, write = make(bucket).version, Bucket.write
    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "write", lambda *arguments: write(*arguments) and False)
        number = ObjectStore(bucket).publish(version)
    entries = json.loads(publications_of(bucket))["publications"]
    assert [entry["publication"] for entry in entries] == [number]


def publications_of(bucket: BucketUrl) -> bytes:
    found = Bucket(bucket).read(PUBLICATIONS)
    assert found is not None
    return found.data


def test_list_of_publications_stays_small(bucket: BucketUrl) -> None:
    version = make(bucket).version
    old = [{"publication": n, "version": f"{n:012x}"} for n in range(REMEMBERED + 50)]
    put(bucket, PUBLICATIONS, json.dumps({"publications": old}).encode())
    number = ObjectStore(bucket).publish(version)
    entries = json.loads(publications_of(bucket))["publications"]
    assert len(entries) == REMEMBERED
    assert entries[-1]["publication"] == number
    assert entries[-2] == old[-1]


def test_upload_that_is_killed_leaves_the_old_one(bucket: BucketUrl, tmp_path: Path) -> None:
    old = make(bucket, 1)
    publish(bucket, old.version)
    new = make(tmp_path / "elsewhere", 2, items=400_000)
    code = (
        "import sys, pathlib; from models.artifact.stores import open_store; from models.location import *\n"
        "print('begins', flush=True)\n"
        "open_store(location(sys.argv[1])).add(pathlib.Path(sys.argv[2]), sys.argv[3])\n"
        "print('done')"
    )
    command = [sys.executable, "-c", code, str(bucket), str(new.path), new.version]
    upload = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert upload.stdout is not None
    assert upload.stdout.readline() == "begins\n"
    objects, until = Bucket(bucket / new.version), time.monotonic() + 60
    while objects.size(FILES[0]) is None and time.monotonic() < until:
        time.sleep(0.002)
    upload.kill()
    assert upload.stdout.read() == ""  # it was not done
    upload.wait()
    upload.stdout.close()
    assert objects.size(CHECKSUMS) is None
    assert load(bucket).version == old.version
    with pytest.raises(ArtifactError, match=r"is missing, so .* cannot be published"):
        publish(bucket, new.version)
    with pytest.raises(ArtifactError, match="there is no artifact at"):
        load(bucket / new.version)
    open_store(bucket).add(new.path, new.version)
    publish(bucket, new.version)
    assert load(bucket).version == new.version


@pytest.mark.parametrize("name", FILES)
def test_truncated_object_is_refused_by_name_and_mended_where_the_artifact_was_made(
    bucket: BucketUrl, tmp_path: Path, name: str
) -> None:
    made = make(tmp_path / "made")
    store = open_store(bucket)
    store.add(made.path, made.version)
    content = (made.path / name).read_bytes()
    put(bucket / made.version, name, content[:-1])
    with pytest.raises(ArtifactError, match=rf"{made.version}/{name} is damaged"):
        load(bucket / made.version)
    assert VersionCache().find(made.version) is None
    store.add(made.path, made.version)
    assert load(bucket / made.version).version == made.version


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"publications": []}', b'{"publications": [1]}'])
def test_damaged_list_of_publications_is_one_line(bucket: BucketUrl, content: bytes) -> None:
    put(bucket, PUBLICATIONS, content)
    with pytest.raises(ArtifactError, match=f"{PUBLICATIONS} is damaged"):
        ObjectStore(bucket).current()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_damaged_checksums_are_one_line(bucket: BucketUrl, content: bytes) -> None:
    put(bucket / "a", CHECKSUMS, content)
    with pytest.raises(ArtifactError, match=f"a/{CHECKSUMS} is damaged"):
        load(bucket / "a")


def test_nothing_there_is_one_line(bucket: BucketUrl) -> None:
    with pytest.raises(ArtifactError, match=r"there is no artifact at s3://.*: make one with"):
        load(bucket)
    with pytest.raises(ArtifactError, match=r"publications\.json is not there: publish a version"):
        load(bucket / "current")
    assert not is_there(bucket)


def test_bucket_that_refuses_is_one_line_without_secrets(
    bucket: BucketUrl, object_storage: ObjectStorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make(bucket).version
    for name, value in object_storage.environment("reader").items():
        monkeypatch.setenv(name, value)
    load(bucket / version)
    with pytest.raises(UnreachableError, match=r"publications\.json is refused \(AccessDenied"):
        publish(bucket, version)
    with pytest.raises(UnreachableError, match=r"is refused \(AccessDenied"):
        open_store(bucket).prepare()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hushhush")
    with pytest.raises(UnreachableError, match=r"is refused \(SignatureDoesNotMatch") as refused:
        open_store(bucket).current()
    assert "hushhush" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_server_that_is_away_is_one_line_at_once(bucket: BucketUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(UnreachableError, match=r"cannot be reached \(.*\): AWS_ENDPOINT_URL is http://127"):
        open_store(bucket).current()
    assert time.monotonic() - started < 20


def test_what_is_not_set_is_named(bucket: BucketUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL must be like https://"):
        open_store(bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:hush@127.0.0.1:{free_port()}")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnreachableError, match="AWS_ACCESS_KEY_ID is not set") as refused:
        open_store(bucket).current()
    assert "hush" not in str(refused.value)


def test_server_that_is_silent_is_one_line_after_seconds(bucket: BucketUrl, silent_server: None) -> None:
    started = time.monotonic()
    with pytest.raises(UnreachableError, match="cannot be reached"):
        open_store(bucket).current()
    assert time.monotonic() - started < 40  # it waits for 10


def test_what_this_host_has_needs_no_bucket(bucket: BucketUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert load_item_vectors(bucket / made.version).version == made.version
    assert open_store(bucket).directory(made.version) == made.path


def test_path_needs_no_client_of_buckets(tmp_path: Path) -> None:
    artifact = make(tmp_path / "store")
    publish(tmp_path / "store", artifact.version)
    code = (
        "import sys, pathlib; sys.modules['obstore'] = sys.modules['torch'] = None\n"
        "from models.artifact.item_vectors import load_item_vectors\n"
        "import offline.publish\n"
        "print(load_item_vectors(pathlib.Path(sys.argv[1])).version)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == artifact.version, done.stderr


def test_poll_that_finds_nothing_new_brings_no_bytes(bucket: BucketUrl) -> None:
    version, store = make(bucket).version, ObjectStore(bucket)
    store.publish(version)
    first = store.current()
    seen = store._published
    assert store.current() == first
    assert store._published is seen
    ObjectStore(bucket).publish(version)
    assert store.current().number > first.number


def test_threads_share_one_store(bucket: BucketUrl) -> None:
    version, store = make(bucket).version, ObjectStore(bucket)
    number = store.publish(version)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(store.current().number for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [number] * 80
