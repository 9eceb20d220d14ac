"""Each promise of docs/guarantees.md names tests, and those exist."""

import ast
import re
from functools import cache

import pytest

from tests.docs.markdown import DOCS, ROOT, rows

PROMISES = {row["promise"]: row["shown by"] for row in rows(DOCS / "guarantees.md", "promise")}


@cache
def names_of_tests(file: str) -> set[str]:
    """Return the names of a file's tests; none where there is no such file."""
    path = ROOT / file
    body = ast.parse(path.read_text()).body if path.exists() else []
    functions = (node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_is_shown_by_tests_that_exist(promise: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PROMISES[promise])
    assert named
    assert [f"{file}::{name}" for file, name in named if name not in names_of_tests(file)] == []
