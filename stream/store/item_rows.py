"""Live items as bytes: some rows of the live item table, and the header that says what there is of it.

A row of the table is an item: first those of the artifact, in its order, then those that appeared since; the
row of an item that is gone may be another's. What is not among the published rows is as the artifact has it,
and nobody touched it lately.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from models.arrays import Flags, Floats, Ints
from models.quantised import quantised


@dataclass(frozen=True, slots=True)
class ItemRows:
    """n rows of the table, as they were at one moment.

    row (n,); vector (n, D) an item's output vector; count (n, 2) its decayed counts, one for each half-life,
    at counted_ms (n,), the time (epoch ms) since which they decay; is_gone (n,) where there is no such
    item any more; item_ids, categories: n texts.
    """

    row: Ints
    vector: Floats
    count: Floats
    counted_ms: Ints
    is_gone: Flags
    item_ids: Sequence[str]
    categories: Sequence[str]

    def __len__(self) -> int:
        return len(self.row)

    def to_bytes(self, snapshot: int) -> bytes:
        """Return them as the bytes of this snapshot."""
        return rows_to_bytes(snapshot, self)

    def select(self, places: Ints) -> "ItemRows":
        """Return some of them."""
        return ItemRows(
            self.row[places],
            self.vector[places],
            self.count[places],
            self.counted_ms[places],
            self.is_gone[places],
            [self.item_ids[place] for place in places.tolist()],
            [self.categories[place] for place in places.tolist()],
        )


class _Packed(msgspec.Struct, frozen=True):
    """Rows as one MessagePack map; arrays little-endian, in the types of `_TYPES`, row by row."""

    snapshot: int
    dimension: int
    row: bytes
    scale: bytes
    vector: bytes
    count: bytes
    counted_ms: bytes
    is_gone: bytes
    item_ids: Sequence[str]
    categories: Sequence[str]


#: int8 vectors: a coordinate is the byte times the row's scale.
_TYPES: dict[str, np.dtype[Any]] = {
    "row": np.dtype("<u4"),
    "scale": np.dtype("<f4"),
    "vector": np.dtype("i1"),
    "count": np.dtype("<f4"),
    "counted_ms": np.dtype("<i8"),
    "is_gone": np.dtype("?"),
}

_DECODER = msgspec.msgpack.Decoder(_Packed)


def row_bytes(dimension: int) -> int:
    """Return the bytes of a row, but for its id and category."""
    lengths = {"vector": dimension, "count": 2}
    return sum(kind.itemsize * lengths.get(name, 1) for name, kind in _TYPES.items()) + 2


def as_read(vectors: Floats) -> Floats:
    """Return vectors (n, D) as whoever reads them has them."""
    values, scale = quantised(vectors)
    return values.astype(np.float32) * scale[:, None]


def rows_to_bytes(snapshot: int, rows: ItemRows) -> bytes:
    """Return rows as the bytes of this snapshot."""
    values, scale = quantised(rows.vector)
    arrays = {
        "row": rows.row,
        "scale": scale,
        "vector": values,
        "count": rows.count,
        "counted_ms": rows.counted_ms,
        "is_gone": rows.is_gone,
    }
    packed = {name: np.ascontiguousarray(array, _TYPES[name]).tobytes() for name, array in arrays.items()}
    return msgspec.msgpack.encode(
        _Packed(
            snapshot=snapshot,
            dimension=rows.vector.shape[1],
            item_ids=rows.item_ids,
            categories=rows.categories,
            **packed,
        )
    )


def rows_from_bytes(value: bytes) -> tuple[int, ItemRows]:
    """Return the snapshot and the rows of `rows_to_bytes`."""
    packed = _DECODER.decode(value)
    arrays = {name: np.frombuffer(getattr(packed, name), kind) for name, kind in _TYPES.items()}
    vector = arrays["vector"].reshape(-1, packed.dimension).astype(np.float32) * arrays["scale"][:, None]
    return packed.snapshot, ItemRows(
        arrays["row"].astype(np.int64),
        vector,
        arrays["count"].reshape(-1, 2),
        arrays["counted_ms"],
        arrays["is_gone"],
        packed.item_ids,
        packed.categories,
    )


def log_popularity(
    count: Floats, counted_ms: Ints, half_lives_ms: tuple[float, float], now_ms: int
) -> Floats:
    """Return log(1 + p) (n, 2), p being counts (n, 2) at some times (n,) as they have decayed until now."""
    age_ms = np.maximum(now_ms - counted_ms, 0)[:, None]
    return np.asarray(np.log1p(count * np.exp2(-age_ms / np.array(half_lives_ms))), np.float32)


@dataclass(frozen=True, slots=True)
class ItemsHeader:
    """What there is of the live items of one model."""

    #: Number of the learner that writes them, and of its newest snapshot.
    run: int
    snapshot: int
    #: The chunks hold what was published before this snapshot; from it on there is a delta for each.
    oldest: int
    chunks: int
    #: Rows of the table that are the artifact's own items.
    known: int
    #: What log(1 + decayed count) adds to a score, and the half-lives of the counts (ms); of live inputs
    #: nothing.
    weights: tuple[float, float]
    half_lives_ms: tuple[float, float]
    #: The stream's time, up to which counts have decayed, and when this was written (epoch ms).
    now_ms: int
    written_at_ms: int
    #: Why the learner does not publish any more; empty while it does.
    stopped: str = ""

    def values(self) -> dict[str, str | int]:
        """Return the fields of the HASH."""
        return {
            **{name: getattr(self, name) for name in ("run", "snapshot", "oldest", "chunks", "known")},
            "weights": " ".join(map(repr, self.weights)),
            "half_lives_ms": " ".join(map(repr, self.half_lives_ms)),
            "now": self.now_ms,
            "written_at": self.written_at_ms,
            "stopped": self.stopped,
        }


#: The field beside them that holds the direction (D,), float32, of the artifact's frozen popularity, of which
#: live items' vectors have nothing: the last coordinate, unless the model's space was turned.
POPULAR = "popular"

#: The fields that make an ItemsHeader, in the order of `parse_header`.
HEADER_FIELDS = (
    *("run", "snapshot", "oldest", "chunks", "known"),
    *("now", "written_at", "weights", "half_lives_ms", "stopped"),
)


def parse_header(fields: Sequence[bytes | None]) -> ItemsHeader | None:
    """Return what the values of HEADER_FIELDS say; None where there are no live items."""
    *numbers, weights, half_lives, stopped = fields
    if None in numbers or weights is None or half_lives is None:
        return None
    run, snapshot, oldest, chunks, known, now_ms, written_at_ms = (int(each or 0) for each in numbers)
    return ItemsHeader(
        run=run,
        snapshot=snapshot,
        oldest=oldest,
        chunks=chunks,
        known=known,
        weights=_pair(weights),
        half_lives_ms=_pair(half_lives),
        now_ms=now_ms,
        written_at_ms=written_at_ms,
        stopped=(stopped or b"").decode(),
    )


def _pair(value: bytes) -> tuple[float, float]:
    first, second = map(float, value.split())
    return first, second
