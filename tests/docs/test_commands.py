"""Every command that a page names exists, with the options that it is given."""

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from local.__main__ import main as run
from tests.docs.markdown import ROOT, code, pages

#: What a command of ours begins with.
OURS = ("./run", "python -m", "faust -A", "torchrun", "docker compose")

#: What only stands for what a reader puts there.
PLACEHOLDERS = ("NAME", "...")


def commands() -> list[tuple[str, str]]:
    """Return each page's commands, from blocks and from lines, without comments and what stands before."""
    found = []
    for page in pages():
        if page.name == "CHANGELOG.md":  # says what was
            continue
        lines = [line.removeprefix("    ") for line in page.read_text().splitlines()]
        for line in [*lines, *code(page)]:
            command = re.sub(r"^(\w+=\S+ )+", "", line.partition(" #")[0].strip().removesuffix("&").strip())
            if command.startswith(OURS) and not any(word in command for word in PLACEHOLDERS):
                found.append((page.name, command))
    return sorted(set(found))


def command_of(module: str) -> click.Command:
    """Return what `python -m` runs of a module."""
    is_package = (ROOT / module.replace(".", "/")).is_dir()
    found = importlib.import_module(f"{module}.__main__" if is_package else module).main
    assert isinstance(found, click.Command)
    return found


def parse(command: click.Command, words: list[str]) -> None:
    """Raise click.UsageError where a command does not take these words."""
    parser = command.make_parser(click.Context(command))
    _, left_over, _ = parser.parse_args(words)
    assert not left_over, left_over


def check(words: list[str]) -> None:
    """Fail where words are no command of ours."""
    match words:
        case ["python", "-m", "tests.docs.house"]:
            pass
        case ["python", "-m", module] | ["faust", "-A", module, "worker"] if module.startswith(
            "bench.peers."
        ):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()
        case ["python", "-m", module, *rest]:
            parse(command_of(module), rest)
        case ["torchrun", "--nproc-per-node", _, "-m", module, *rest]:
            parse(command_of(module), rest)
        case ["./run"]:
            pass
        case ["./run", "bench", name, *rest]:
            parse(command_of(f"bench.{name.replace('-', '_')}"), rest)
        case ["./run", "demo", *rest]:
            parse(command_of("local.demo"), rest)
        case ["./run", "test", *rest]:
            check_tests(rest)
        case ["./run", verb, *rest]:
            assert isinstance(run, click.Group)
            parse(run.commands[verb], rest)
        case ["faust", "-A", "stream.app", "worker"] | ["faust", "-A", "stream.app", "worker", "-l", _]:
            pass
        case ["docker", "compose", *rest]:
            check_compose(rest)
        case _:
            pytest.fail(f"no test knows {shlex.join(words)}")


def check_tests(words: list[str]) -> None:
    """Fail where pytest is not given tests that exist and options that it or we have."""
    ours = (ROOT / "tests" / "conftest.py").read_text()
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in ours, word
        elif word.startswith("tests/"):
            assert (ROOT / word).exists(), word
        else:
            assert word == "-s" or word.isdigit(), word


def check_compose(words: list[str]) -> None:
    """Fail where a service or profile is named that docker-compose.yml has not."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    match words:
        case ["up", "--detach"]:
            pass
        case ["up", "--detach", "--scale", scaled]:
            assert scaled.partition("=")[0] in services
        case ["--profile", profile, "up", service]:
            assert profile in profiles
            assert service in services
        case _:
            pytest.fail(f"no test knows docker compose {shlex.join(words)}")


def test_there_are_commands_on_the_pages() -> None:
    assert len(commands()) > 40


@pytest.mark.parametrize(("page", "command"), commands())
def test_command_is_one_that_there_is(page: str, command: str) -> None:
    try:
        check(shlex.split(command))
    except (click.UsageError, KeyError, ModuleNotFoundError) as error:
        pytest.fail(f"{page}: {command}: {error}")


@pytest.mark.parametrize(
    "command",
    ["python -m offline.train --no-such", "./run bench ingest --peers", "./run fly", "python -m replay x"],
)
def test_command_that_there_is_not_is_noticed(command: str) -> None:
    with pytest.raises((click.UsageError, KeyError, AssertionError)):
        check(shlex.split(command))


def test_files_of_the_project_that_pages_name_exist() -> None:
    tops = "bench|deploy|docs|local|models|offline|replay|stream|tests"
    for page in pages():
        for piece in code(page):
            if re.fullmatch(rf"(?:{tops})/[\w/.-]*", piece):
                assert (ROOT / Path(piece)).exists(), f"{page.name}: {piece}"
