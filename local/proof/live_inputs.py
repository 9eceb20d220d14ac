"""What items had become at a moment: the live inputs of a snapshot, as far as Redis still says what it was.

Redis keeps chunks, each as of some snapshot, and the deltas of the last minutes. A row as of snapshot S is
the last of its values up to S; where its chunk is younger than S, that is a delta's, or the chunk's own where
no delta since S has the row. Of the rows that are left there is no telling.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import redis

from models.artifact.artifact import Artifact
from models.ids.hash_table import make_hash_table
from models.ids.hashes import hashes_of
from models.ids.texts import texts_of
from models.ids.vocabulary_file import FIRST_KNOWN
from models.quantised import Bytes8
from models.windows.live_inputs import LiveInputs
from stream.store import item_writer
from stream.store.input_rows import InputRows, input_rows_from_bytes
from stream.store.item_series import ItemSeries, Kept
from stream.store.keys import ItemKeys

#: An item's input, int8 (D,) and its scale.
Input = tuple[Bytes8, float]
#: What is known of a row: its value, by its place among all; that there was none; or nothing.
At = int | Literal["absent", "unknown"]


def read_kept_inputs(client: "redis.Redis", key_prefix: str, artifact: Artifact) -> "KeptInputs | None":
    """Return what Redis keeps of a model's live inputs, None where there are none."""
    keys = ItemKeys(key_prefix, artifact.version, "inputs")
    kept = ItemSeries(client, keys, len(artifact.item_ids), input_rows_from_bytes).kept()
    return KeptInputs(artifact, kept) if kept else None


class KeptInputs:
    """All values of all rows that are kept, and the moment of each."""

    def __init__(self, artifact: Artifact, kept: Kept[InputRows]) -> None:
        self._artifact, self._run, self._newest = artifact, kept.header.run, kept.header.snapshot
        self._chunks = [snapshot for snapshot, _ in kept.chunks]
        #: From this snapshot on there is every delta.
        self._first_delta = kept.deltas[0][0] if kept.deltas else self._newest + 1
        parts = [*((*each, True) for each in kept.chunks), *((*each, False) for each in kept.deltas)]
        self._rows = [rows for _, rows, _ in parts]
        lengths = [len(rows) for rows in self._rows]
        #: Of every value: the part and the place that it is at, its row, snapshot, and whether of a chunk.
        self._part = np.repeat(np.arange(len(parts)), lengths)
        self._place = np.concatenate([np.arange(0), *(np.arange(each) for each in lengths)])
        self._row = np.concatenate([np.arange(0), *(rows.row for rows in self._rows)])
        self._hash = np.concatenate([np.zeros(0, np.uint64), *(rows.hash for rows in self._rows)])
        self._snapshot = np.repeat(np.array([each for each, _, _ in parts], np.int64), lengths)
        self._is_chunk = np.repeat(np.array([each for _, _, each in parts], np.bool_), lengths)
        self._by_row, self._by_hash = np.argsort(self._row, kind="stable"), np.argsort(self._hash)
        self._is_sure: dict[int, bool] = {}

    def at(self, number: str, item_ids: Sequence[str]) -> Mapping[int, Input] | None:
        """Return the inputs at a snapshot of those of these items that had any, by the items' hashes.

        None where there is no telling of one of them.
        """
        run, _, snapshot = number.partition(".")
        if int(run) != self._run or int(snapshot) > self._newest:
            return None
        found: dict[int, Input] = {}
        known = self._artifact.vocabulary.item_indices(item_ids) - FIRST_KNOWN
        for bits, row in zip(hashes_of(texts_of(item_ids)).tolist(), known.tolist(), strict=True):
            at = self._item_at(int(snapshot), bits, row)
            if at == "unknown":
                return None
            if isinstance(at, int):
                rows, place = self._rows[self._part[at]], self._place[at]
                found[bits] = rows.values[place], float(rows.scale[place])
        return found

    def _item_at(self, snapshot: int, bits: int, known: int) -> At:
        """Return what an item had; known: its row where the model knows it, below 0 where not."""
        begin, end = (np.searchsorted(self._hash, np.uint64(bits), side, self._by_hash) for side in _SIDES)
        rows = set(self._row[self._by_hash[begin:end]].tolist())
        states = {row: self._row_at(snapshot, row) for row in rows | ({known} if known >= 0 else set())}
        for at in states.values():
            if isinstance(at, int) and self._is_item(at, bits):
                return at
        is_sure = known >= 0 or self._is_sure_of_new_items(snapshot)
        return "unknown" if "unknown" in states.values() or not is_sure else "absent"

    def _is_item(self, at: int, bits: int) -> bool:
        rows, place = self._rows[self._part[at]], self._place[at]
        return int(rows.hash[place]) == bits and not rows.is_gone[place]

    def _row_at(self, snapshot: int, row: int) -> At:
        """Return what stood in a row."""
        begin, end = (np.searchsorted(self._row, row, side, self._by_row) for side in _SIDES)
        values = self._by_row[begin:end]
        before = values[self._snapshot[values] <= snapshot]
        chunk = self._chunk_of(row)
        if chunk > snapshot and snapshot + 1 < self._first_delta:
            return "unknown"
        if len(before):
            return int(before[np.argmax(self._snapshot[before])])
        of_chunk = values[self._is_chunk[values]]
        if chunk <= snapshot or not len(of_chunk):
            return "absent"  # it was not there when its chunk was written, nor has a delta brought it since
        is_between = (self._snapshot[values] <= chunk) & ~self._is_chunk[values]
        return "unknown" if is_between.any() else int(of_chunk[0])

    def _chunk_of(self, row: int) -> int:
        """Return the snapshot that a row's chunk is of; without a chunk, the rows began after all of them."""
        number = row // item_writer.CHUNK_ROWS
        return self._chunks[number] if number < len(self._chunks) else 0

    def _is_sure_of_new_items(self, snapshot: int) -> bool:
        """Return whether every row behind the model's own is known, so that no item can have been in one."""
        if snapshot not in self._is_sure:
            rows = np.unique(self._row[self._row >= len(self._artifact.item_ids)]).tolist()
            is_sure = all(self._row_at(snapshot, row) != "unknown" for row in rows)
            self._is_sure[snapshot] = is_sure
        return self._is_sure[snapshot]


_SIDES: tuple[Literal["left", "right"], Literal["left", "right"]] = ("left", "right")


def live_inputs(number: str, inputs: Mapping[int, Input], artifact: Artifact) -> LiveInputs:
    """Return these inputs as a batch encodes with them."""
    dimension, reach = artifact.items.dimension, artifact.settings.features.short_events
    values = np.zeros((len(inputs), dimension), np.int8)
    scale = np.zeros(len(inputs), np.float32)
    for place, (value, factor) in enumerate(inputs.values()):
        values[place], scale[place] = value, factor
    table = make_hash_table(np.array([*inputs], np.uint64), np.arange(len(inputs)))
    return LiveInputs(number, table, values, scale, reach)
