"""What a first start compiles, it has at the end, however the process beside it fares."""

import subprocess
from typing import Any

import pytest

from models.errors import SettingsError
from stream.worker import compiling
from stream.worker.compiling import compiled_loops


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Return the processes that are begun, as if nothing were kept from before."""
    found: list[subprocess.Popen[bytes]] = []
    begin = subprocess.Popen

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        found.append(begin(*args, **options))
        return found[-1]

    monkeypatch.setattr(compiling, "must_compile", lambda function: True)
    monkeypatch.setattr(subprocess, "Popen", popen)
    return found


def test_the_fold_is_compiled_beside_what_the_start_does(begun: list[subprocess.Popen[bytes]]) -> None:
    with compiled_loops():
        assert len(begun) == 1
    assert begun[0].returncode == 0


def test_where_that_fails_the_start_does_it(
    begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr(compiling, "_FOLD", "raise SystemExit(3)")
    monkeypatch.setattr(compiling, "compile_fold", lambda: compiled.append(True))
    with compiled_loops():
        assert not compiled
    assert (begun[0].returncode, compiled) == (3, [True])


def test_a_start_that_fails_leaves_no_process_behind(
    begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_FOLD", "import time; time.sleep(600)")
    with pytest.raises(SettingsError, match="no such bucket"), compiled_loops():
        raise SettingsError("no such bucket")
    assert begun[0].returncode is not None


def test_nothing_runs_beside_a_start_that_finds_all_of_it(
    begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "must_compile", lambda function: False)
    with compiled_loops():
        pass
    assert not begun
