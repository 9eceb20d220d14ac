"""The contract of an artifact: encode any user, come back unchanged, refuse what is not one."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import safetensors.torch
import torch

from models.artifact.artifact import Artifact, load, publish, save
from models.artifact.files import FILES
from models.artifact.local_store import LocalStore
from models.artifact.settings import ArtifactSettings
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from models.windows.histories import Histories

VOCABULARY = Vocabulary(
    [f"item#{number}" for number in range(20)], [2 + n % 3 for n in range(20)], ["a", "b", "c"]
)


def make(store: Path, seed: int = 0, item_length: Literal["one", "free"] = "one") -> Artifact:
    model = ModelSettings(dimension=16, item_length=item_length)
    settings = ArtifactSettings(features=FeatureSettings(gap_ms=1_000), model=model)
    torch.manual_seed(seed)
    towers = DualTowers(VOCABULARY, settings.features, settings.model)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        if item_length == "free":
            towers.direct.again.fill_(1.0)
    return save(store, towers, VOCABULARY, settings, {"test": {"ndcg_at_10": 0.5}}, {"cutoff_ms": 7})


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make(tmp_path / "store")


def histories(counts: list[int]) -> Histories:
    random = np.random.default_rng(1)
    total = sum(counts)
    pauses = random.choice([0, 500, 5_000], total)
    return Histories(
        item=random.integers(1, FIRST_KNOWN + 20, total),
        category=random.integers(1, 5, total),
        behaviour=random.integers(1, 5, total).astype(np.uint8),
        time_ms=np.cumsum(pauses),
        starts=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    )


def test_loaded_artifact_encodes_as_the_saved_one(artifact: Artifact) -> None:
    again = load(artifact.path)
    users = histories([3, 110, 40])
    np.testing.assert_array_equal(again.encode(users).user, artifact.encode(users).user)
    np.testing.assert_array_equal(again.item_vectors, artifact.item_vectors)
    assert (again.version, again.settings, again.item_ids) == (
        artifact.version,
        artifact.settings,
        VOCABULARY.item_ids,
    )
    assert again.metrics == {"test": {"ndcg_at_10": 0.5}}
    assert again.training == {"cutoff_ms": 7}


def test_no_users_one_user_and_empty_histories_have_vectors(artifact: Artifact) -> None:
    users = histories([0, 5, 0])
    assert artifact.encode(users.take(np.array([], dtype=np.int64))).user.shape == (0, 16)
    cold_start = artifact.encode(users.take(np.array([0])))
    assert cold_start.user.shape == cold_start.long.shape == cold_start.short.shape == (1, 16)
    np.testing.assert_array_equal(artifact.encode(users).user[[0, 2]], np.repeat(cold_start.user, 2, axis=0))
    assert cold_start.user.dtype == np.float32


def test_each_event_changes_the_vector(artifact: Artifact) -> None:
    whole = histories([30])
    vector = artifact.encode(whole).user
    for place in range(30):
        item = whole.item.copy()
        item[place] = FIRST_KNOWN + (item[place] - FIRST_KNOWN + 1) % 20
        changed = Histories(item, whole.category, whole.behaviour, whole.time_ms, whole.starts)
        assert np.abs(artifact.encode(changed).user - vector).max() > 1e-6, place


def test_same_content_is_the_same_version_and_other_content_another(tmp_path: Path) -> None:
    first, second, other = make(tmp_path / "a"), make(tmp_path / "b"), make(tmp_path / "a", seed=1)
    assert first.version == second.version != other.version
    assert first.path.name == first.version
    assert make(tmp_path / "a").version == first.version


def test_store_leads_to_the_artifact_published_last(tmp_path: Path) -> None:
    store = tmp_path / "store"
    old, new = make(store, 0), make(store, 1)
    assert load(store / old.version).publication == 0
    numbers = [publish(store, version) for version in (old.version, new.version, old.version)]
    assert numbers == sorted(set(numbers))
    assert (store / "current").readlink() == Path(old.version)
    for path in (store, store / "current", store / old.version):
        assert (load(path).version, load(path).publication) == (old.version, numbers[2])
    assert load(store / new.version).publication == numbers[1]
    lines = [json.loads(line) for line in (store / "publications.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"publication", "version", "published_at"}] * 3


def test_crash_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(Vocabulary, "to_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*FILES, "checksums.json"])
def test_damaged_or_missing_file_is_named(artifact: Artifact, name: str) -> None:
    file = artifact.path / name
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"!!")
    with pytest.raises(ArtifactError, match=name):
        load(artifact.path)
    file.unlink()
    with pytest.raises(ArtifactError, match=name):
        load(artifact.path)


def test_what_is_no_artifact_is_refused(tmp_path: Path, artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"no artifact at .*offline\.train"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="is not an artifact"):
        load(tmp_path / "empty")
    with pytest.raises(ArtifactError, match="not an artifact"):
        publish(tmp_path, "0123456789ab")
    publish(artifact.path.parent, artifact.version)
    shutil.rmtree(artifact.path)
    with pytest.raises(ArtifactError, match="points at"):
        load(artifact.path.parent)


def rewritten(artifact: Artifact, name: str, content: bytes) -> Path:
    """Replace a file and its checksum, as someone who means it would."""
    import hashlib

    (artifact.path / name).write_bytes(content)
    sums = json.loads((artifact.path / "checksums.json").read_text())
    sums[name] = hashlib.sha256(content).hexdigest()
    (artifact.path / "checksums.json").write_text(json.dumps(sums))
    return artifact.path


def test_artifact_of_another_format_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"config\.json has format 'other-9'"):
        load(rewritten(artifact, "config.json", b'{"format": "other-9"}'))


def test_an_artifact_of_before_there_were_unit_lengths_encodes_as_it_did(tmp_path: Path) -> None:
    artifact, users = make(tmp_path, item_length="free"), histories([3, 110, 40])
    before = artifact.encode(users).user
    config = json.loads((artifact.path / "config.json").read_text())
    del config["settings"]["model"]["item_length"]
    weights = safetensors.torch.load_file(artifact.path / "weights.safetensors")
    del weights["direct.again"]
    rewritten(artifact, "config.json", json.dumps(config).encode())
    old = load(rewritten(artifact, "weights.safetensors", safetensors.torch.save(weights)))
    np.testing.assert_allclose(old.encode(users).user, before, atol=1e-6)
    assert np.abs(make(tmp_path / "new").encode(users).user - before).max() > 0.01


@pytest.mark.parametrize("name", ["weights.safetensors", "vocabulary.msgpack", "item_vectors.safetensors"])
def test_pickle_is_never_loaded(artifact: Artifact, name: str) -> None:
    with pytest.raises(ArtifactError, match=name):
        load(rewritten(artifact, name, pickle.dumps({"weights": [1.0]})))


def test_store_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file/artifacts: nothing can be written there \(Not a"):
        LocalStore(tmp_path / "file" / "artifacts").prepare()


def test_damaged_artifact_is_replaced_by_who_makes_or_copies_it_again(tmp_path: Path) -> None:
    artifact = make(tmp_path / "store")
    copy = shutil.copytree(artifact.path, tmp_path / "copy")
    vectors = artifact.path / FILES[3]
    vectors.write_bytes(vectors.read_bytes()[:-8])
    assert make(tmp_path / "store").version == artifact.version
    vectors.unlink()
    LocalStore(tmp_path / "store").add(copy, artifact.version)
    np.testing.assert_array_equal(load(artifact.path).item_vectors, load(copy).item_vectors)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [artifact.version]
