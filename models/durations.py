"""Durations as people write them: `500ms`, `90s`, `10m`, `1.5h`, `2d`."""

import re

from models.errors import SettingsError

#: Milliseconds of each unit.
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_s(option: str, text: str) -> float:
    """Return the seconds of an option's duration. Raises SettingsError, which names the option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not found or not float(found[1]):
        raise SettingsError(f"{option} is {text!r}; it must be a time above 0 such as 90s, 30m, 1h or 1d")
    return float(found[1]) * UNITS_MS[found[2]] / 1_000


def text_of_ms(duration_ms: int) -> str:
    """Return a duration in the largest unit that it is a multiple of."""
    unit = next(unit for unit in reversed(UNITS_MS) if duration_ms % UNITS_MS[unit] == 0)
    return f"{duration_ms // UNITS_MS[unit]}{unit}"
