"""What `python -m local.proof` makes of its arguments and settings; the rest needs servers."""

import pytest
from click.testing import CliRunner

from local.proof.__main__ import main


def test_help_shows_an_example() -> None:
    found = CliRunner().invoke(main, ["--help"])
    assert found.exit_code == 0
    assert "python -m local.proof --sample 1000" in found.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--sample", "0"], {}, "0 is not in the range x>=1"),
        (["--sample", "many"], {}, "'many' is not a valid integer"),
        ([], {"TWINTIDE_SAMPLES": "5"}, "TWINTIDE_SAMPLES is no setting"),
        ([], {"REDIS_URL": "redis://127.0.0.1:1/0"}, "no Redis at redis://127.0.0.1:1/0"),
    ],
)
def test_what_cannot_be_proved_is_one_line_and_exit_2(
    arguments: list[str], environment: dict[str, str], said: str
) -> None:
    found = CliRunner().invoke(main, arguments, env=environment)
    assert found.exit_code == 2
    assert said in found.stderr.strip().splitlines()[-1]
    assert found.stdout == ""
