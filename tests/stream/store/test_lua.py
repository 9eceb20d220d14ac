"""The scripts' files: each says what it takes, and its fields are those that the Python side knows."""

import re
from importlib.resources import files

import pytest

from stream.store.keys import FIELDS, OTHER
from stream.store.registry_state import MODELS_FIELDS
from stream.store.scripts import digest, script

NAMES = sorted(each.name.removesuffix(".lua") for each in files("stream.store").joinpath("lua").iterdir())
SHARED = {"registry", "slots"}


def listed(text: str, name: str) -> list[str]:
    """Return the texts of the Lua table that is assigned to `name`."""
    found = re.search(rf"local {name} = \{{(.*?)\}}", text, re.DOTALL)
    assert found, f"no table {name}"
    return re.findall(r"'([^']*)'", found[1])


@pytest.mark.parametrize("name", [each for each in NAMES if each not in SHARED])
def test_head_of_a_script_says_keys_arguments_and_answer(name: str) -> None:
    head = script(name).partition("\n\n")[0]
    for what in ("-- KEYS ", "-- ARGV ", "-- Returns "):
        assert what in head
    assert "-- include " not in script(name)


def test_scripts_are_loaded_once() -> None:
    assert script("upsert_slots") is script("upsert_slots")
    assert len(digest("upsert_slots")) == 40


def test_slots_have_the_fields_that_readers_ask_for() -> None:
    slots = script("slots")
    assert listed(slots, "PLAIN") == list(FIELDS)
    assert listed(slots, "OTHER") == [OTHER + name for name in FIELDS]


@pytest.mark.parametrize("prefix", ["", OTHER])
def test_upsert_writes_each_argument_under_its_name(prefix: str) -> None:
    calls = re.findall(r"redis\.call\('HSET', key,\n(.*?)\)\n", script("upsert_slots"), re.DOTALL)
    written = [re.findall(r"'([^']*)', ARGV\[base \+ (\d+)\]", call) for call in calls]
    assert [(prefix + name, str(place)) for place, name in enumerate(FIELDS, start=1)] in written


def test_registry_answers_with_the_fields_that_are_parsed() -> None:
    assert listed(script("registry"), "FIELDS") == list(MODELS_FIELDS)
