"""Compiled code is kept where that can be, and its functions work where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import tempfile
{before}
from models.compiled import compiled

@compiled
def twice(number):
    return 2 * number

print(twice(21))
"""

KEPT_SCRIPT = """
from models.compiled import compiled, must_compile

@compiled
def twice(number):
    return 2 * number

print(must_compile(twice), twice(21), must_compile(twice))
"""


def run(tmp_path: Path, before: str) -> "subprocess.CompletedProcess[str]":
    """Run a script where neither the code's directory nor the user's cache can be one, not even for root."""
    (tmp_path / "file").write_text("")
    (tmp_path / "script.py").write_text(SCRIPT.format(before=before))
    nowhere = {"NUMBA_CACHE_DIR": str(tmp_path / "file"), "XDG_CACHE_HOME": str(tmp_path / "file")}
    environment = {**os.environ, **nowhere, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(tmp_path / "script.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("before", "warning"),
    [
        ("", "is used instead; set XDG_CACHE_HOME to a directory of yours"),
        (
            "def none(): raise FileNotFoundError('no usable temporary directory')\n"
            "tempfile._get_default_tempdir = none",
            "compiled code cannot be kept, so every start compiles it: no usable temporary directory",
        ),
    ],
)
def test_read_only_host_costs_one_warning(tmp_path: Path, before: str, warning: str) -> None:
    done = run(tmp_path, before)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith(warning)


def test_what_was_compiled_and_kept_need_not_be_compiled(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KEPT_SCRIPT)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(script)]
    runs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        for _ in range(2)
    ]
    assert [run.stdout.split() for run in runs] == [["True", "42", "False"], ["False", "42", "False"]]
