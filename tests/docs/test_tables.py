"""The tables of docs/redis.md and docs/data.md have what the code has, and nothing else."""

import re
from typing import get_args

from models.log.format import FORMATS
from stream.serving.reader import Reason
from stream.store.keys import FIELDS
from stream.store.registry_state import MODELS_FIELDS
from tests.docs.markdown import DOCS, plain, rows


def names(page: str, column: str) -> list[str]:
    """Return all names between backquotes in the first column of these tables."""
    return [name for row in rows(DOCS / page, column) for name in re.findall(r"`([^`]+)`", row[column])]


def test_fields_in_redis_are_those_of_the_code() -> None:
    shown = names("redis.md", "field")
    assert len(shown) == len(set(shown))
    assert {*FIELDS, *MODELS_FIELDS} <= set(shown)
    of_second_slot = {"other:vec", "other:model"}
    of_progress = {"covered:{partition}", "rewrite:{partition}", "settled", "refused"}
    assert set(shown) == {*FIELDS, *MODELS_FIELDS, *of_second_slot, *of_progress}


def test_reasons_of_the_reader_are_those_of_the_code() -> None:
    shown = {plain(row["`reason`"]) for row in rows(DOCS / "redis.md", "`reason`")}
    assert shown == {reason or "(empty)" for reason in get_args(Reason)}


def test_reasons_of_dead_letters_are_those_that_are_counted() -> None:
    (counted,) = (row for row in rows(DOCS / "metrics.md", "metric") if "dlq" in row["metric"])
    assert sorted(names("data.md", "reason")) == sorted(re.findall(r"`(\w+)`", counted["values"]))


def test_formats_of_logs_are_those_of_the_code() -> None:
    assert sorted(names("data.md", "format")) == sorted(FORMATS)
