"""Times that commands take, and those that are none."""

import pytest

from models.errors import SettingsError
from offline.options import LATEST_MS, describe_time, parse_time


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "nan", "²", str(LATEST_MS + 1), "9" * 5_000])
def test_what_is_no_time_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--cutoff is "):
        parse_time("--cutoff", text)


@pytest.mark.parametrize("text", ["2014-12-16", "2014-12-16 12:30:00", "0", str(LATEST_MS)])
def test_what_is_one_can_be_shown(text: str) -> None:
    assert describe_time(parse_time("--cutoff", text)) >= "1970-01-01 00:00:00"
