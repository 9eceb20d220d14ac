"""`./run` itself: which Python it takes, when it installs, what it hands on; the project is a stand-in."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from local import install

ROOT = Path(__file__).resolve().parents[2]

#: Stands for local/install.py: makes an environment whose Python tells its arguments.
INSTALLER = """
import pathlib, sys
root, stamp = pathlib.Path(sys.argv[1]), sys.argv[2]
(root / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
(root / ".venv" / "bin" / "python").write_text('#!/bin/sh\\nfor word; do echo "<$word>"; done\\n')
(root / ".venv" / "bin" / "python").chmod(0o755)
(root / ".venv" / "installed").write_text(stamp)
print("installed", file=sys.stderr)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a directory with a space in its name that has `run` and what it reads."""
    project = tmp_path / "a project"
    (project / "local").mkdir(parents=True)
    (project / "local" / "install.py").write_text(INSTALLER)
    (project / "pyproject.toml").write_text("[project]\n")
    (project / "constraints.txt").write_text("click==8.3.3\n")
    shutil.copy(ROOT / "run", project)
    return project


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Give a directory with the few programs that `run` needs, and no Python."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "dirname", "cat", "cksum"):
        found = shutil.which(name)
        assert found is not None
        (directory / name).symlink_to(found)
    return directory


def run(project: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path) if path else f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [project / "run", *arguments], capture_output=True, text=True, env=environment, cwd=project.parent
    )


def test_arguments_arrive_as_they_were_given(project: Path) -> None:
    done = run(project, "test", "a b", "", "--flag=*")
    assert done.stdout.splitlines() == ["<-P>", "<-m>", "<local>", "<test>", "<a b>", "<>", "<--flag=*>"]


@pytest.mark.parametrize("arguments", [[], ["help"], ["-h"]])
def test_help_is_what_no_verb_means(project: Path, arguments: list[str]) -> None:
    assert run(project, *arguments).stdout.splitlines()[-1] == "<--help>"


def test_second_call_installs_nothing(project: Path) -> None:
    assert "installed" in run(project).stderr
    assert run(project).stderr == ""


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_install_again(project: Path, name: str) -> None:
    run(project)
    (project / name).write_text("# changed\n")
    assert "installed" in run(project).stderr
    assert run(project).stderr == ""


def test_moved_project_installs_again(project: Path) -> None:
    run(project)
    moved = project.rename(project.with_name("moved"))
    assert "installed" in run(moved).stderr


def test_python_that_is_only_a_name_is_passed_over(project: Path, programs: Path) -> None:
    (programs / "python3.13").write_text("#!/bin/sh\necho no such version >&2\nexit 127\n")
    (programs / "python3.13").chmod(0o755)
    (programs / "python3").symlink_to(sys.executable)
    done = run(project, path=programs)
    assert (done.returncode, done.stderr) == (0, "installed\n")


def test_without_python_one_line_says_so(project: Path, programs: Path) -> None:
    done = run(project, path=programs)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no Python >= 3.11 on the PATH" in done.stderr


def test_interrupted_install_is_made_anew_and_a_complete_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []

    def create(directory: Path, clear: bool, with_pip: bool) -> None:
        made.append(clear and with_pip)
        (directory / "bin").mkdir(parents=True, exist_ok=True)
        (directory / "bin" / "python").touch()

    def interrupted(root: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(venv, "create", create)
    monkeypatch.setattr(install, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install.main(tmp_path, "1 2 /here")
    monkeypatch.setattr(install, "install", lambda root: None)
    install.main(tmp_path, "1 2 /here")
    assert made == [True, True]
    install.main(tmp_path, "1 2 /here")
    install.main(tmp_path, "3 4 /here")  # other requirements: pip works on what is there
    assert made == [True, True]
    install.main(tmp_path, "3 4 /there")  # another place: its paths are wrong
    assert made == [True, True, True]
    assert (tmp_path / ".venv" / "installed").read_text() == "3 4 /there"


def test_failed_pip_tells_its_error_and_where_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho Collecting\necho 'ERROR: no such version' >&2\nexit 3\n")
    python.chmod(0o755)
    (tmp_path / ".local").mkdir()
    with pytest.raises(SystemExit, match=r"exit 3\): ERROR: no such version; all of it: .*install\.log"):
        install.install(tmp_path)
