"""That the learner's sums have one machine code, whichever process compiled it."""

import importlib
import pkgutil
from typing import Any

import models.items
from models.compiled import compiled_with_fast_sums

#: What Python calls; no one of them calls another.
ENTRIES = {"learn_events", "score_shown", "_start_all"}


@compiled_with_fast_sums
def _one() -> int:
    return 1


def test_whatever_a_loop_with_fast_sums_calls_is_compiled_into_it() -> None:
    kind: Any = type(_one)
    found = {}
    for module in pkgutil.iter_modules(models.items.__path__, "models.items."):
        for name, function in vars(importlib.import_module(module.name)).items():
            if isinstance(function, kind) and "fastmath" in function.targetoptions:
                found[name] = bool(function.targetoptions.get("forceinline"))
    assert {name for name, is_within in found.items() if not is_within} == ENTRIES
    assert {"learn_step", "user_vector", "mix", "start"} <= found.keys()
