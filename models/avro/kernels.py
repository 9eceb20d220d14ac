"""Avro's binary records, read by a program (program.py) as machine code, and never past a record's end."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from models.avro.program import (
    ARRAY,
    BOOLEAN,
    COUNT,
    DOUBLE,
    ENUM,
    FIRST,
    FIXED,
    FLOAT,
    INT,
    KEY,
    KIND,
    MAP,
    RECORD,
    SLOT,
    STEP,
    TEXT,
    UNION,
    Program,
)
from models.compiled import compiled

#: Types inside each other at most: a record of a type that is part of itself may go on for ever.
DEPTH = 200
#: An int's bounds.
INT_END = 1 << 31
#: A byte from here on is followed by another of the same number.
CONTINUES = 128


class Found(NamedTuple):
    """What R records have in S columns: kind (R, S) what it is, number (R, S) its value, or where its text
    begins, size (R, S) the text's, real (R, S) its value where it is a float; is_bad (R,) no record of the
    schema."""

    kind: NDArray[np.uint8]
    number: Ints
    size: Ints
    real: NDArray[np.float64]
    is_bad: NDArray[np.bool_]


def found_of(columns: int, rows: int) -> Found:
    """Return room for what is found, with nothing in it."""
    shape = (rows, columns)
    kind, number = np.zeros(shape, np.uint8), np.zeros(shape, np.int64)
    return Found(kind, number, np.zeros(shape, np.int64), np.zeros(shape), np.zeros(rows, np.bool_))


@compiled
def read_records(
    text: NDArray[np.uint8], starts: Ints, ends: Ints, texts_start: int, program: Program, found: Found
) -> None:
    """Read the records that lie in the bytes from starts (R,) to ends (R,).

    The program's texts begin at texts_start. `nodes` and `states` are where it is in types inside each
    other: a record's state is its next field, an array's or map's how many items of a block are left, below 0
    where the block's size in bytes comes first. All in one function, as handing an array to another takes
    longer than reading a value.
    """
    steps, children, text_starts = program.steps, program.children, program.text_starts
    kind, numbers, sizes, reals, is_bad = found.kind, found.number, found.size, found.real, found.is_bad
    nodes, states = np.zeros(DEPTH, np.int64), np.zeros(DEPTH, np.int64)
    for row in range(len(starts)):
        position, end, depth = starts[row], ends[row], 0
        nodes[0] = states[0] = 0
        while depth >= 0:
            node = nodes[depth]
            step, first, count, slot = (
                steps[node, STEP],
                steps[node, FIRST],
                steps[node, COUNT],
                steps[node, SLOT],
            )
            state = states[depth]
            number, size, real = np.int64(0), np.int64(0), 0.0
            if step >= INT and not (step == ARRAY and state > 0):  # a number comes first
                value, shift, byte = np.uint64(0), np.uint64(0), np.uint64(CONTINUES)
                while byte >= np.uint64(CONTINUES) and position < end and shift < np.uint64(70):
                    byte = np.uint64(text[position])
                    value |= (byte & np.uint64(CONTINUES - 1)) << shift
                    shift += np.uint64(7)
                    position += 1
                if byte >= np.uint64(CONTINUES):
                    break
                number = np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1))
            if step < RECORD or INT <= step <= TEXT:
                if step in (TEXT, FIXED):
                    number, size = position, (number if step == TEXT else first)
                elif step in (FLOAT, DOUBLE):
                    size = np.int64(4 if step == FLOAT else 8)
                elif step == BOOLEAN:
                    size = np.int64(1)
                if not 0 <= size <= end - position:
                    break
                if step == BOOLEAN:
                    number = np.int64(text[position])
                    if number > 1:
                        break
                elif step == FLOAT:
                    real = float(text[position : position + 4].copy().view(np.float32)[0])
                elif step == DOUBLE:
                    real = float(text[position : position + 8].copy().view(np.float64)[0])
                elif (step == INT and not -INT_END <= number < INT_END) or (
                    step == ENUM and not 0 <= number < count
                ):
                    break
                position += size
                if slot >= 0:
                    if step in (BOOLEAN, ENUM):
                        place = number + (first if step == ENUM else 0)
                        number, size = (
                            texts_start + text_starts[place],
                            text_starts[place + 1] - text_starts[place],
                        )
                    kind[row, slot] = steps[node, KIND]
                    numbers[row, slot], sizes[row, slot], reals[row, slot] = number, size, real
                depth -= 1
            elif step == UNION:
                if not 0 <= number < count:
                    break
                nodes[depth], states[depth] = children[first + number], 0
            elif step == RECORD:
                if state == count:
                    depth -= 1
                    continue
                states[depth] = state + 1
                if depth + 1 == DEPTH:
                    break
                depth += 1
                nodes[depth], states[depth] = children[first + state], 0
            elif state < 0:
                states[depth] = -state
            elif state == 0:
                # Each item takes a byte at least: of those that take none, there might be 2 ** 63.
                if not -(end - position) <= number <= end - position:
                    break
                states[depth] = number
                if number == 0:
                    depth -= 1
            else:
                child = first
                if step == MAP:
                    if not 0 <= number <= end - position:
                        break
                    for place in range(count):
                        key = steps[node, KEY] + place
                        is_key = text_starts[key + 1] - text_starts[key] == number
                        for at in range(number if is_key else 0):
                            is_key = (
                                is_key and text[position + at] == text[texts_start + text_starts[key] + at]
                            )
                        if is_key:
                            child = first + 1 + place
                    position += number
                states[depth] = state - 1
                if depth + 1 == DEPTH:
                    break
                depth += 1
                nodes[depth], states[depth] = children[child], 0
        is_bad[row] = depth >= 0 or position != end


@compiled
def copy_texts(text: NDArray[np.uint8], starts: Ints, ends: Ints, copied: NDArray[np.uint8]) -> None:
    """Copy texts (R,) side by side: starts (R,) where they begin, ends (R + 1,) the copies'."""
    for row in range(len(starts)):
        start = starts[row]
        for place in range(ends[row], ends[row + 1]):
            copied[place] = text[start + place - ends[row]]
