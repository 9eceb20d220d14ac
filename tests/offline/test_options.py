"""Times that commands take, and those that are none."""

from types import SimpleNamespace

import pytest

from models.errors import SettingsError
from offline.options import LATEST_MS, cutoff_of, describe_time, parse_time, warn_of_last


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "nan", "²", str(LATEST_MS + 1), "9" * 5_000])
def test_what_is_no_time_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--cutoff is "):
        parse_time("--cutoff", text)


@pytest.mark.parametrize("text", ["2014-12-16", "2014-12-16 12:30:00", "0", str(LATEST_MS)])
def test_what_is_one_can_be_shown(text: str) -> None:
    assert describe_time(parse_time("--cutoff", text)) >= "1970-01-01 00:00:00"


def trained(**training: object) -> SimpleNamespace:
    return SimpleNamespace(version="0f3a9c2b7d11", training={"cutoff_ms": 5_000, **training})


@pytest.mark.parametrize(
    ("training", "cutoff", "warns"),
    [
        ({"learned_until_ms": 4_000}, None, False),
        ({"learned_until_ms": 4_000}, "4000", False),
        ({"learned_until_ms": 4_000}, "3999", True),
        ({"learned_until_ms": 9_000}, None, True),  # it was continued, and no version before is beside it
        ({"learned_until_ms": None}, "1", False),  # adopted, and nobody says what it has learned
    ],
)
def test_who_is_asked_about_what_it_has_learned_is_warned_of(
    training: dict[str, object], cutoff: str | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cutoff_ms = cutoff_of(trained(**training), cutoff)
    assert cutoff_ms == int(cutoff or 5_000)
    assert ("0f3a9c2b7d11 has learned rows until 1970-01-01 00:00:0" in caplog.text) == warns


@pytest.mark.parametrize(
    ("training", "warns"),
    [
        ({"protocol": "leave-one-out", "learned_until_ms": 9}, False),
        ({"protocol": "leave-one-out", "learned_until_ms": 9, "continued_from": "a"}, True),
        ({"protocol": "time", "learned_until_ms": 9}, True),
        ({"protocol": "time", "learned_until_ms": None}, False),
    ],
)
def test_who_has_learned_users_last_rows_is_warned_of(
    training: dict[str, object], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_last(trained(**training))
    assert ("users' last ones among them" in caplog.text) == warns
