"""The rows of a file of JSON objects, a line each, as Arrow columns: what stands at a format's paths."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from models.log.content import DAMAGED, open_text
from models.log.csv_lines import BLOCK_BYTES, BYTE_ORDER_MARK
from models.log.file_rows import CODED, BrokenLines, FileRows, file_rows
from models.log.files import LogFile, unreadable
from models.log.format import LogFormat
from models.log.json_leaves import (
    JsonLeaves,
    NotTogetherError,
    json_object,
    text_of,
    texts_of_leaf,
    value_at,
)
from models.log.json_lists import unfolded
from models.log.sources import KeyPath, name_of


def read_json(file: LogFile, log_format: LogFormat, progress: Callable[[int], object]) -> FileRows:
    """Return the rows of a file of JSON, plain or compressed; DataError where it cannot be read."""
    paths = [path for path in log_format.paths if name_of(path) not in file.partitions]
    leaves, broken = JsonLeaves(paths), BrokenLines()
    chunks: dict[KeyPath, list[Any]] = {path: [] for path in paths}
    rows: list[int] = []
    lines_before = 0
    try:
        with file.open() as stream:
            for block in _blocks(open_text(file, stream)):
                numbered = [(line, number) for number, line in enumerate(block, lines_before + 1) if line]
                lines_before += len(block)
                if log_format.each:
                    numbered = _unfolded(numbered, log_format.each_path)
                texts, sound = _texts_of(leaves, paths, numbered, broken)
                rows += sound
                for path in paths:
                    chunks[path].append(_column_of(texts[path], path == log_format.time_path))
                progress(stream.tell())
    except DAMAGED as error:
        raise unreadable(file.name, error) from error
    types = {path: pa.binary() if path == log_format.time_path else CODED for path in paths}
    columns = {name_of(path): pa.chunked_array(chunks[path], types[path]) for path in paths}
    return file_rows(file, log_format, columns, np.array(rows, np.int64), lines_before, broken)


def _blocks(stream: Any) -> Iterator[list[bytes]]:
    """Yield all lines of a stream, without the spaces around them, some megabytes at once."""
    rest, is_first = b"", True
    while block := stream.read(BLOCK_BYTES):
        *whole, rest = (rest + (block.removeprefix(BYTE_ORDER_MARK) if is_first else block)).split(b"\n")
        is_first = False
        yield [line.strip() for line in whole]
    yield [rest.strip()] if rest else []


def _unfolded(numbered: list[tuple[bytes, int]], path: KeyPath) -> list[tuple[bytes, int]]:
    parts, places = unfolded([line for line, _ in numbered], path)
    return [(part or b"", numbered[place][1]) for part, place in zip(parts, places.tolist(), strict=True)]


def _texts_of(
    leaves: JsonLeaves, paths: Sequence[KeyPath], numbered: list[tuple[bytes, int]], broken: BrokenLines
) -> tuple[dict[KeyPath, Any], list[int]]:
    """Return the texts at each path of those numbered lines that are objects, and their numbers."""
    try:
        found = leaves.together([line for line, _ in numbered])
        return {path: texts_of_leaf(found[path]) for path in paths}, [number for _, number in numbered]
    except NotTogetherError:
        pass
    objects, sound = [], []
    for line, number in numbered:
        found_object = json_object(line)
        if found_object is None:
            broken.add(number, f"{line[:80].decode(errors='replace')!r} is no JSON object")
        else:
            objects.append(found_object)
            sound.append(number)
    return {
        path: pa.array([text_of(value_at(each, path)) for each in objects], pa.string()) for path in paths
    }, sound


def _column_of(texts: Any, is_time: bool) -> Any:
    """Return texts as CODED, or as bytes where they are times; what is missing is empty."""
    content = texts.cast(pa.binary()).fill_null(b"")
    return content if is_time else content.dictionary_encode()
