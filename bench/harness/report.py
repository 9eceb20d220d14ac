"""What a benchmark found: as a table for people, as JSON for machines."""

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

Result = dict[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """Results by contestant; a ratio "a/b" says how many times better a is."""

    settings: Mapping[str, object]
    results: Mapping[str, Result]
    machine: Mapping[str, object] = field(default_factory=lambda: describe_machine())
    ratios: dict[str, float] = field(default_factory=dict)

    def compare(self, better: str, others: tuple[str, ...], measure: str) -> None:
        """Add the ratios of one contestant's measure to each of the others', where both took part.

        There is none to another that has 0.
        """
        for other in others:
            if better in self.results and other in self.results and self.results[other][measure]:
                ratio = self.results[better][measure] / self.results[other][measure]
                self.ratios[f"{better}/{other}"] = ratio

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        found = asdict(self)
        ordered = {part: found[part] for part in ("machine", "settings", "results", "ratios")}
        path.write_text(json.dumps(ordered, indent=2) + "\n")


def describe_machine() -> dict[str, object]:
    """Return what this machine is, as far as results depend on it."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def print_table(title: str, rows: Mapping[str, Mapping[str, float]], formats: Mapping[str, str]) -> None:
    """Print one row per contestant to stdout, `formats` being the columns and how their numbers look."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in formats:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(_text(row[column], form) for column, form in formats.items()))
    Console(width=110).print(table)


def _text(number: float, form: str) -> str:
    return "" if math.isnan(number) else format(number, form)
