"""A step is the same however its stretches are divided: into batches, over processes; also after a kill."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner

from local.servers import ROOT
from models.artifact.artifact import load
from models.errors import SettingsError
from offline import train
from offline.training.parallel import device_of

#: Nothing that depends on how a step is divided: no dropout, no hidden items, no contrast within a batch.
EXACT = "dimension = 16\ndropout = 0.0\nunknown_share = 0.0\ncontrast_weight = 0.0\nlr = 0.01\nepochs = 4\n"
SAMPLED = 'loss = "sampled-softmax"\nnegatives = 20\n'
FULL = 'loss = "full-softmax"\n'
BEHAVIOURS = "behaviour_weights = [1.0, 2.0, 3.0, 4.0]\n"
#: For a training of seconds, on a machine that has other work.
TIMEOUT_S = 600
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def trained(log: Path, store: Path, settings: str) -> np.ndarray:
    """Return the item vectors after a training in this process."""
    found = CliRunner().invoke(train.main, arguments(log, store, settings))
    assert found.exit_code == 0, found.output
    return load(store).item_vectors


def arguments(log: Path, store: Path, settings: str) -> list[str]:
    """Return those of offline.train."""
    store.mkdir(exist_ok=True)
    (store / "c.toml").write_text(settings)
    return ["--data-path", str(log), "--save-dir", str(store), "--config", str(store / "c.toml")]


def run(launcher: tuple[str, ...], command: list[str]) -> str:
    """Return what a training of its own process prints."""
    finished: subprocess.CompletedProcess[str] = subprocess.run(**child(launcher, command), timeout=TIMEOUT_S)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def kill_after_an_epoch(launcher: tuple[str, ...], command: list[str], store: Path) -> None:
    """Start a training and kill it with -9, all its processes, once it has written a checkpoint."""
    with subprocess.Popen(**child(launcher, command)) as running:
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not list(store.glob(".training-*[!t]")):
                assert running.poll() is None and time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            first = psutil.Process(running.pid)
            for process in [first, *first.children(recursive=True)]:
                process.kill()
        running.communicate()
    assert not (store / "current").exists()


def child(launcher: tuple[str, ...], command: list[str]) -> dict[str, Any]:
    """Return how a training is started as a child of this process."""
    return {
        "args": [sys.executable, *launcher, "-m", "offline.train", *command],
        "cwd": ROOT,
        "env": {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},  # sums in the same order
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


@pytest.mark.parametrize("loss", [SAMPLED, SAMPLED + "hard_share = 0.2\n", FULL])
def test_accumulated_batches_are_one_larger_batch(walk_csv: Path, tmp_path: Path, loss: str) -> None:
    settings = EXACT + BEHAVIOURS + loss
    whole = trained(walk_csv, tmp_path / "whole", settings + "batch_size = 9\n")
    parts = trained(walk_csv, tmp_path / "parts", settings + "batch_size = 3\naccumulate = 3\n")
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    other = trained(walk_csv, tmp_path / "other", settings + "batch_size = 3\n")
    assert np.abs(other - whole).max() > 0.1


def test_two_killed_processes_go_on_as_one_with_twice_the_batch(walk_csv: Path, tmp_path: Path) -> None:
    """An odd number of users leaves the second process without any in the last step."""
    odd = tmp_path / "odd.csv"
    lines = walk_csv.read_text().splitlines(keepends=True)
    odd.write_text("".join(line for line in lines if not line.startswith("user#7,")))
    settings = EXACT + BEHAVIOURS + SAMPLED
    whole = trained(odd, tmp_path / "whole", settings + "batch_size = 2\n")
    command = arguments(odd, tmp_path / "two", settings + "batch_size = 1\n")
    kill_after_an_epoch(TORCHRUN, command, tmp_path / "two")
    output = run(TORCHRUN, command)
    assert len(re.findall(r"^epoch ", output, re.MULTILINE)) == 6  # the first process alone speaks
    assert len((tmp_path / "two" / "publications.jsonl").read_text().splitlines()) == 1
    assert not list((tmp_path / "two").glob(".training-*"))
    np.testing.assert_allclose(load(tmp_path / "two").item_vectors, whole, atol=1e-3)


def test_killed_training_goes_on_to_the_same_version(walk_csv: Path, tmp_path: Path) -> None:
    settings = (
        SAMPLED + "dimension = 16\nepochs = 8\nhard_share = 0.2\nprecision = 'bfloat16'\naccumulate = 2\n"
    )
    command = arguments(walk_csv, tmp_path / "killed", settings)
    kill_after_an_epoch((), command, tmp_path / "killed")
    for store in ("killed", "whole"):
        trained(walk_csv, tmp_path / store, settings)
    assert load(tmp_path / "killed").version == load(tmp_path / "whole").version


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_comes_near(walk_csv: Path, tmp_path: Path, precision: str) -> None:
    exact = trained(walk_csv, tmp_path / "exact", EXACT)
    near = trained(walk_csv, tmp_path / "near", EXACT + f'precision = "{precision}"\n')
    check_near(near, exact)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loss", [SAMPLED + "hard_share = 0.2\nhard_from_history = false\n", FULL])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gpu_comes_near_the_cpu(walk_csv: Path, tmp_path: Path, precision: str, loss: str) -> None:
    exact = trained(walk_csv, tmp_path / "exact", EXACT + loss)
    settings = EXACT + loss + f'precision = "{precision}"\ndevice = "cuda"\n'
    check_near(trained(walk_csv, tmp_path / "near", settings), exact)


def check_near(near: np.ndarray, exact: np.ndarray) -> None:
    """Check that vectors (I, D) are not the same, and of nearly the same directions."""
    assert near.dtype == np.float32
    assert np.abs(near - exact).max() > 0
    cosine = torch.nn.functional.cosine_similarity(torch.tensor(near), torch.tensor(exact))
    assert cosine.min() > 0.9


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(device_of(name, 1)) for name in ("cpu", "cuda", "auto")] == ["cpu", "cuda:1", "cuda:1"]
    with pytest.raises(SettingsError, match="process 2 finds 2 GPUs"):
        device_of("cuda", 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(device_of("auto", 0)) == "cpu"
    with pytest.raises(SettingsError, match="finds 0 GPUs"):
        device_of("cuda", 0)
