"""The encoder: rows are what the artifact encodes, kept vectors are counted, a device may fail."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import REGISTRY

from local.servers import ROOT
from models.arrays import Floats
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.settings import ArtifactSettings
from models.encoder import Vectors
from models.errors import SettingsError
from models.ids.vocabulary import Vocabulary
from models.inference.cpu_towers import CpuTowers
from models.inference.inference import Inference
from models.towers.dual_towers import DualTowers
from models.towers.histories import EventFeatures, Part
from models.towers.settings import ModelSettings
from models.windows.histories import Histories, histories_of_cold_start, histories_of_windows
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, WindowSettings, window_to_bytes
from stream.encoding.encoder import Encoder, open_encoder
from stream.settings import Settings
from stream.store.keys import COLD_START_USER


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    torch.manual_seed(0)
    vocabulary = Vocabulary([f"i{n}" for n in range(30)], [2] * 30, ["c0"])
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return artifacts.save(tmp_path, towers, vocabulary, settings, {}, {})


def window(events: int) -> bytes:
    made = Window()
    for number in range(events):
        incoming = IncomingEvent(number, 1_000 + number, 1, f"i{number % 33}", "c0", number)
        fold(made, incoming, "topic", 0, WindowSettings())
    return window_to_bytes(made)


class Device:
    """A device that works for so many calls and then fails as a GPU does."""

    reads_live = False

    def __init__(self, artifact: Artifact, calls: int) -> None:
        self._path = CpuTowers(artifact.towers.weights(), artifact.settings.features)
        self._calls = calls

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        return self._path.long_of(histories, derived, part)

    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        self._calls -= 1
        if self._calls < 0:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self._path.short_of(histories, derived, part)


def device_of(artifact: Artifact, calls: int) -> Inference:
    return Inference(artifact.towers.weights(), artifact.settings.features, Device(artifact, calls))


def value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def encoded(tower: str) -> float:
    return REGISTRY.get_sample_value("twintide_encoded_users_total", {"tower": tower}) or 0.0


def test_rows_hold_what_the_artifact_encodes(artifact: Artifact) -> None:
    users = [("u", window(3)), ("v", window(60))]
    expected = artifact.encode(histories_of_windows([each for _, each in users], artifact.vocabulary))
    for place, row in enumerate(Encoder(artifact, kept_vectors=10).rows(users, epoch=7)):
        np.testing.assert_allclose(row.vec, expected.user[place], atol=1e-6)
        np.testing.assert_allclose(row.long, expected.long[place], atol=1e-6)
        assert (row.user_id, row.seq, row.n, row.epoch) == (*[("u", 2, 3), ("v", 59, 60)][place], 7)


def test_cold_start_users_have_a_row_for_every_category(artifact: Artifact) -> None:
    nowhere, at_category = Encoder(artifact).cold_start_rows(["", "c0"])
    expected = artifact.encode(histories_of_cold_start(["", "c0"], artifact.vocabulary))
    for place, row in enumerate((nowhere, at_category)):
        np.testing.assert_array_equal(row.vec, expected.user[place])
        assert (row.user_id, row.category) == (COLD_START_USER, ["", "c0"][place])
        assert (row.model, row.epoch, row.seq, row.ts, row.n) == (artifact.version, 0, 0, 0, 0)
    assert not np.allclose(nowhere.vec, at_category.vec)
    device = device_of(artifact, calls=0)
    (found,) = Encoder(artifact, device).cold_start_rows(["c0"])
    np.testing.assert_allclose(found.vec, at_category.vec, atol=1e-6)


def test_long_tower_is_counted_only_when_it_ran(artifact: Artifact) -> None:
    encoder = Encoder(artifact, kept_vectors=10)
    before = encoded("long"), encoded("short")
    encoder.rows([("u", window(15)), ("v", window(3))], epoch=0)  # v's long part is empty
    encoder.rows([("u", window(16))], epoch=0)
    encoder.rows([("u", window(21))], epoch=0)
    assert (encoded("long") - before[0], encoded("short") - before[1]) == (2, 4)


def test_cpu_takes_over_for_good_when_the_device_fails(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    device = device_of(artifact, calls=1)
    encoder, plain = Encoder(artifact, device, kept_vectors=10), Encoder(artifact, kept_vectors=10)
    before = value("twintide_device_failures_total")
    for events in (12, 13, 25, 26):
        (row,), (expected,) = (each.rows([("u", window(events))], epoch=0) for each in (encoder, plain))
        np.testing.assert_allclose(row.vec, expected.vec, atol=1e-6)
    assert value("twintide_device_failures_total") == before + 1
    assert [record.message for record in caplog.records if "illegal memory access" in record.message]


def test_vectors_that_are_no_numbers_are_left_out_counted_and_said_once(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode = Inference.encode

    def sometimes_wrong(towers: Inference, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        found = encode(towers, histories, user_ids)
        found.user[np.diff(histories.starts) == 3, 0] = np.nan
        found.long[np.diff(histories.starts) == 5, 1] = np.inf
        return found

    monkeypatch.setattr(Inference, "encode", sometimes_wrong)
    before, encoder = value("twintide_not_finite_vectors_total"), Encoder(artifact)
    users = [(f"u{events}", window(events)) for events in (2, 3, 4, 5)]
    assert [row.user_id for row in encoder.rows(users, epoch=0)] == ["u2", "u4"]
    assert encoder.rows([("other", window(3))], epoch=0) == []
    assert value("twintide_not_finite_vectors_total") == before + 3
    (said,) = (record.message for record in caplog.records if "NaN" in record.message)
    assert "user u3 (3 events)" in said


def test_what_fails_on_the_cpu_is_not_hidden(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Inference, "encode_pass", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        Encoder(artifact).rows([("u", window(3))], epoch=0)


def test_gpu_that_is_not_there_is_refused_only_where_it_is_asked_for(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="TWINTIDE_DEVICE is cuda"):
        open_encoder(Settings(device="cuda"), artifact)
    for device in ("auto", "cpu"):
        assert open_encoder(Settings(device=device), artifact).rows([("u", window(3))], epoch=0)


def test_first_event_waits_for_no_compiler(artifact: Artifact) -> None:
    # In a process of its own: in this one others have compiled before.
    code = f"""
import pathlib, sys
from numba.core.registry import CPUDispatcher
from models.artifact import artifact
from stream.encoding.encoder import open_encoder
from stream.settings import Settings

def compiled():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("models.")]
    found = {{id(each): each for module in modules for each in vars(module).values()}}
    return sum(len(each.signatures) for each in found.values() if isinstance(each, CPUDispatcher))

encoder = open_encoder(Settings(device="cpu"), artifact.load(pathlib.Path({str(artifact.path)!r})))
before = compiled()
encoder.rows([(str(n), bytes.fromhex(text)) for n, text in enumerate(sys.argv[1:])], epoch=0)
print(before, compiled())
"""
    windows = [window(events).hex() for events in (1, 15, 60)]
    done = subprocess.run(
        [sys.executable, "-c", code, *windows], capture_output=True, text=True, check=True, cwd=ROOT
    )
    before, after = map(int, done.stdout.split())
    assert 0 < before == after


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_takes_over_from_a_dead_gpu(artifact: Artifact) -> None:
    # In a process of its own: CUDA is dead for good in one whose kernel has read what is not there.
    code = f"""
import pathlib, sys, torch
sys.path[:0] = {sys.path}
from models.artifact import artifact
from stream.encoding.encoder import open_encoder
from stream.settings import Settings
encoder = open_encoder(Settings(device="cuda"), artifact.load(pathlib.Path({str(artifact.path)!r})))
users = [(str(n), bytes.fromhex(text)) for n, text in enumerate(sys.argv[1:])]
before = encoder.rows(users, epoch=0)
try:
    torch.zeros(1, device="cuda")[torch.tensor([7], device="cuda")].cpu()
except RuntimeError:
    after = encoder.rows(users, epoch=0)
    print(max(float(abs(one.vec - other.vec).max()) for one, other in zip(before, after)))
"""
    windows = [window(events).hex() for events in (1, 15, 60)]
    done = subprocess.run([sys.executable, "-c", code, *windows], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 1e-5
    assert "encoding on the CPU" in done.stderr


#: What a worker does until it has encoded and explained a user, and which heavy modules it has imported then.
ENCODES = """
import sys
import stream.app
from models.artifact.artifact import load
from models.windows.window import Window, window_to_bytes
from stream.encoding.encoder import open_encoder
from stream.explain.explanation import _weights
artifact = load(__import__("pathlib").Path(sys.argv[1]))
artifact.check_golden()
(row,) = open_encoder(stream.app.settings, artifact).rows([("u", window_to_bytes(Window()))], epoch=0)
assert len(row.vec) == artifact.item_vectors.shape[1]
events = Window(times_ms=[1], behaviours=[1], item_ids=["i1"], categories=["c1"], event_hashes=[1])
assert "short_share" in _weights(window_to_bytes(events), artifact, None)
print(*{name.partition(".")[0] for name in sys.modules} & {"torch", "offline", "pandas", "sklearn"})
"""


def test_a_worker_that_encodes_on_a_cpu_has_imported_neither_torch_nor_training(artifact: Artifact) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", ENCODES, str(artifact.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (finished.returncode, finished.stdout.strip()) == (0, ""), finished.stderr
