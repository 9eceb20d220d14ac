"""A CSV file of features -> what is known of each user or item as numbers; what is wrong is one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.arrays import Floats, Ints
from models.errors import DataError


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one side: its id, and those of each kind."""

    id: str
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    history: tuple[str, ...]
    separator: str

    @property
    def all(self) -> tuple[str, ...]:
        """All that the file must have."""
        return (self.id, *self.categorical, *self.numeric, *self.history)


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of N users or items; row 0 is one of whom nothing is known.

    codes (N, K): of each categorical column, 0 for no value; code_counts (K,); numbers (N, M), 0 at the mean
    and 1 a standard deviation above; lists: of each history column (N, L), 0 behind its values; list_counts.
    """

    codes: Ints
    code_counts: tuple[int, ...]
    numbers: Floats
    lists: tuple[Ints, ...]
    list_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A file of features; R rows, ids (R,)."""

    ids: Sequence[str]
    frame: pd.DataFrame
    columns: Columns

    def features(self, ids: Sequence[str]) -> Features:
        """Return what is known of these users or items, after one who is unknown."""
        rows = pd.Index(self.ids).get_indexer(pd.Index(ids))  # -1 where the file does not have it
        rows = np.concatenate(([-1], rows)).astype(np.int64)
        coded = [_codes(self.frame[name], rows) for name in self.columns.categorical]
        listed = [_lists(self.frame[name], self.columns.separator, rows) for name in self.columns.history]
        return Features(
            np.stack([codes for codes, _ in coded], axis=1) if coded else np.zeros((len(rows), 0), np.int64),
            tuple(count for _, count in coded),
            self._numbers(rows),
            tuple(codes for codes, _ in listed),
            tuple(count for _, count in listed),
        )

    def _numbers(self, rows: Ints) -> Floats:
        values = self.frame[list(self.columns.numeric)].to_numpy(np.float64)  # (R, M)
        spread = values.std(axis=0) if len(values) else np.ones(values.shape[1])
        scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1) if len(values) else values
        return np.concatenate([scaled, np.zeros((1, values.shape[1]))])[rows].astype(np.float32)


def no_table(columns: Columns) -> Table:
    """Return a table of nobody, where no file is named."""
    return Table([], pd.DataFrame({name: [] for name in columns.all}), columns)


def read_table(path: Path, columns: Columns) -> Table:
    """Return the table of a CSV file with a header. Raises DataError, which names line and column."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): see [paths]") from error
    except (ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is no CSV file with a header ({reason})") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first values for the names of rows
        raise DataError(
            f"{path}: its lines have more values than its header names ({', '.join(frame.columns)}): see "
            "that none ends with a comma"
        )
    for name in columns.all:
        if name not in frame.columns:
            raise DataError(f"{path} has no column {name!r}, only {', '.join(frame.columns)}: see [data]")
    ids = frame[columns.id]
    if (ids == "").any():
        raise DataError(f"{path}:{_line(ids == '')} has no {columns.id}: complete the line, or leave it out")
    if ids.duplicated().any():
        line = _line(ids.duplicated())
        raise DataError(f"{path}:{line} has {columns.id} {ids[line - 2]!r} again: keep one line of it")
    for name in columns.numeric:
        frame[name] = _numeric(path, name, frame[name])
    return Table(ids.tolist(), frame, columns)


def _numeric(path: Path, name: str, texts: "pd.Series[str]") -> "pd.Series[float]":
    values = pd.to_numeric(texts, errors="coerce")
    wrong = ~np.isfinite(values)
    if wrong.any():
        line = _line(wrong)
        raise DataError(
            f"{path}:{line} has {name} {texts[line - 2]!r}: it must be a finite number; correct it, or leave "
            "the line out"
        )
    return values


def _line(wrong: "pd.Series[bool]") -> int:
    """Return the line of the first row that is wrong; the header is line 1."""
    return int(np.flatnonzero(wrong)[0]) + 2


def _codes(values: "pd.Series[str]", rows: Ints) -> tuple[Ints, int]:
    """Return the codes (N,) of rows, 0 for an empty value or none, and how many codes there are."""
    known = sorted(set(values) - {""})
    of_value = {value: place for place, value in enumerate(known, start=1)}
    codes = np.array([*(of_value.get(value, 0) for value in values), 0], np.int64)
    return codes[rows], 1 + len(known)


def _lists(values: "pd.Series[str]", separator: str, rows: Ints) -> tuple[Ints, int]:
    """Return the codes (N, L) of the values of each row, 0 behind them, and how many codes there are."""
    lists = [[part.strip() for part in value.split(separator) if part.strip()] for value in values]
    known = sorted({part for parts in lists for part in parts})
    of_value = {value: place for place, value in enumerate(known, start=1)}
    codes = np.zeros((len(lists) + 1, max((len(parts) for parts in lists), default=0) or 1), np.int64)
    for row, parts in enumerate(lists):
        codes[row, : len(parts)] = [of_value[part] for part in parts]
    return codes[rows], 1 + len(known)
