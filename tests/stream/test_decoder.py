"""Choosing a decoder, and refusing what names none."""

import pytest

from models.errors import SettingsError
from stream.decoder import make_decoder


def test_decoder_is_found_by_name() -> None:
    decode = make_decoder("", "json:loads")
    assert decode(b"[1]") == [1]


@pytest.mark.parametrize(
    ("fields", "name", "said"),
    [
        ("uid=user_id", "", "'uid'; an event has user_id"),
        ("nonsense", "", "write pairs such as"),
        ("", "no_such_module:f", "no_such_module"),
        ("", "json:no_such_function", "no_such_function"),
        ("", "json", "write module:function"),
        ("user_id=uid", "json:loads", "exclude each other"),
    ],
)
def test_nonsense_is_refused(fields: str, name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make_decoder(fields, name)
