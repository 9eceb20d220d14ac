"""Who may look: this host without a token, whoever has it with one."""

import pytest

from models.errors import SettingsError
from stream.explain.gate import Gate
from stream.settings import Settings

TOKEN = "0123456789abcdef"
LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:9108"}


def status(gate: Gate, environment: dict[str, str], is_data: bool = True) -> str:
    refusal = gate.refuse(environment, is_data)
    return refusal.status[:3] if refusal else "200"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:9108", "[::1]:9108"])
def test_this_host_needs_no_token(address: str, host: str) -> None:
    assert status(Gate(""), {"REMOTE_ADDR": address, "HTTP_HOST": host}) == "200"


@pytest.mark.parametrize(
    "changes",
    [
        {"REMOTE_ADDR": "10.0.0.7"},
        {"REMOTE_ADDR": "::ffff:10.0.0.7"},
        {"REMOTE_ADDR": ""},
        {"HTTP_HOST": "rebound.example:9108"},  # a name of another site that was made to be 127.0.0.1
        {"HTTP_HOST": "127.0.0.1.example"},
        {"HTTP_HOST": "[::1"},
        {"HTTP_HOST": ""},
        {"HTTP_X_FORWARDED_FOR": "10.0.0.7"},
        {"HTTP_FORWARDED": "for=10.0.0.7"},
    ],
)
@pytest.mark.parametrize("is_data", [True, False])
def test_nobody_else_gets_anything_without_a_token(changes: dict[str, str], is_data: bool) -> None:
    assert status(Gate(""), LOCAL | changes, is_data) == "403"


def test_with_a_token_everybody_must_have_it_and_only_the_empty_page_is_free() -> None:
    gate, far = Gate(TOKEN), {"REMOTE_ADDR": "10.0.0.7", "HTTP_HOST": "worker"}
    for right in (f"Bearer {TOKEN}", f"bearer  {TOKEN} "):
        assert status(gate, far | {"HTTP_AUTHORIZATION": right}) == "200"
    for wrong in ("", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9\u20ac"):
        assert status(gate, LOCAL | {"HTTP_AUTHORIZATION": wrong}) == "401"
    assert status(gate, LOCAL) == "401"
    assert status(gate, far, is_data=False) == "200"


def test_a_weak_token_is_refused_and_none_is_ever_shown() -> None:
    for weak in ("short", "with a blank in it", "ümlaute sind nicht erlaubt"):
        with pytest.raises(SettingsError, match="TWINTIDE_EXPLAIN_TOKEN") as refused:
            Settings.from_environment({"TWINTIDE_EXPLAIN_TOKEN": weak})
        assert weak not in str(refused.value)
    assert TOKEN not in repr(Settings(explain_token=TOKEN))
