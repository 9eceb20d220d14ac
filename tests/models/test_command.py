"""How commands end."""

import errno
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from local.servers import ROOT
from models.command import Command


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT, errno.EROFS])
def test_file_that_cannot_be_written_is_one_line(number: int) -> None:
    @click.command(cls=Command)
    def write() -> None:
        raise OSError(number, "no room", "/data/picture.png")

    result = CliRunner().invoke(write)
    assert (result.exit_code, result.stderr) == (1, "Error: /data/picture.png: no room\n")


def test_words_of_a_library_are_one_line() -> None:
    @click.command(cls=Command)
    def write() -> None:
        raise OSError("When writing:\n  no room")

    assert CliRunner().invoke(write).stderr == "Error: When writing: no room\n"


def test_reader_who_goes_away_is_no_error_line() -> None:
    @click.command(cls=Command)
    def write() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert "Error" not in CliRunner().invoke(write).stderr


def test_what_the_terminals_encoding_does_not_have_is_escaped() -> None:
    code = """
import click
from models.command import Command
@click.command(cls=Command)
def say():
    click.echo("übrig: 商 \U0001f600")
say()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.decode("latin-1")) == (0, "übrig: \\u5546 \\U0001f600\n")
