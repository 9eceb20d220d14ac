"""docs/settings.md has every variable that is read, with its default and with what is allowed."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.errors import SettingsError
from stream.kafka.connection import KafkaConnection
from stream.registry.connection import RegistryConnection
from stream.settings import CONNECTIONS, Settings, variable
from stream.store.connection import RedisConnection
from tests.docs.markdown import DOCS, ROOT, plain, rows

ROWS = {plain(row["variable"]): row for row in rows(DOCS / "settings.md", "variable")}

#: Files in which the variables of the connections are read, by how these begin.
FILES = {
    "KAFKA_": ("stream/kafka/connection.py", KafkaConnection.from_environment({})),
    "REDIS_": ("stream/store/connection.py", RedisConnection.from_environment({})),
    "SCHEMA_REGISTRY_": ("stream/registry/connection.py", RegistryConnection.from_environment({})),
}


def defaults() -> dict[str, Any]:
    """Return the default of every variable."""
    settings, found = Settings(), {}
    for name in inspect.signature(Settings).parameters:
        if name not in CONNECTIONS:
            found[variable(name)] = getattr(settings, name)
    for start, (file, connection) in FILES.items():
        for name in re.findall(rf'"({start}\w+)"', (ROOT / file).read_text()):
            found[name] = getattr(connection, name.removeprefix(start).lower())
    return found


def is_allowed(environment: Mapping[str, str]) -> bool:
    """Return whether a worker starts with these variables."""
    try:
        Settings.from_environment(environment)
    except SettingsError:
        return False
    return True


def test_every_variable_stands_in_a_table_and_every_row_is_a_variable() -> None:
    assert sorted(ROWS) == sorted(defaults())


@pytest.mark.parametrize("name", ROWS)
def test_default_is_the_codes(name: str) -> None:
    default, shown = defaults()[name], plain(ROWS[name]["default"])
    if isinstance(default, bool):
        assert shown == str(default).lower()
    elif isinstance(default, int | float):
        assert float(shown) == default
    else:
        assert isinstance(default, str | Path)
        assert shown == str(default)


@pytest.mark.parametrize("name", ROWS)
def test_what_is_allowed_is_what_the_code_allows(name: str) -> None:
    allowed, default = ROWS[name]["allowed"], defaults()[name]
    if allowed == "text":
        assert isinstance(default, str | Path)
        return
    choices = re.findall(r"`([^`]+)`", allowed)
    if choices:
        assert [choice for choice in choices if not is_allowed({name: choice})] == []
        assert not is_allowed({name: "something else"})
        return
    step = 1 if isinstance(default, int) else 0.001
    bounds = re.findall(r"(at least|above|at most) (\d+)", allowed)
    assert bounds
    for kind, number in bounds:
        inside, outside = {
            "at least": (int(number), int(number) - step),
            "above": (int(number) + step, int(number)),
            "at most": (int(number), int(number) + step),
        }[kind]
        assert is_allowed({name: str(inside)})
        assert not is_allowed({name: str(outside)})
    if "at most" not in allowed:
        assert is_allowed({name: "1000000"})


def test_choices_are_all_that_the_code_offers() -> None:
    for name, row in ROWS.items():
        if row["allowed"].startswith("one of"):
            with pytest.raises(SettingsError) as refused:
                Settings.from_environment({name: "something else"})
            offered = str(refused.value).rpartition("one of ")[2]
            assert sorted(re.findall(r"[\w-]+", offered)) == sorted(re.findall(r"[\w-]+", row["allowed"])[2:])
