"""Shares and speeds as people write them: `5%`, `100x`."""

import math
import re

from models.durations import duration_s
from models.errors import SettingsError


def parse_share(option: str, text: str) -> float:
    """Return the share that `5%` or `0.05` is, from 0 to 1; SettingsError, which names the option, else."""
    number, is_percent = text.removesuffix("%"), text.endswith("%")
    share = _number(number) / (100 if is_percent else 1)
    if not 0 <= share <= 1:
        raise SettingsError(f"{option} is {text!r}; give a share such as 5% or 0.05")
    return share


def parse_share_and_time(option: str, text: str, default_s: float) -> tuple[float, float]:
    """Return the share and the seconds of `5%:10m`, or of `5%` alone, with `default_s`."""
    share, has_time, time = text.partition(":")
    return parse_share(option, share), duration_s(option, time) if has_time else default_s


def parse_factor(option: str, text: str) -> float:
    """Return 100.0 of `100x` or `100`; SettingsError where it is no number above 0."""
    factor = _number(text.removesuffix("x"))
    if not 0 < factor < math.inf:
        raise SettingsError(f"{option} is {text!r}; give a factor above 0 such as 100x")
    return factor


def _number(text: str) -> float:
    try:
        return float(text) if re.fullmatch(r"[\d.]+(e[+-]?\d+)?", text) else math.nan
    except ValueError:
        return math.nan
