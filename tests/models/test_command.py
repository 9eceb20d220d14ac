"""How commands end."""

import errno

import click
import pytest
from click.testing import CliRunner

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
