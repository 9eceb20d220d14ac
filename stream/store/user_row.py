"""What is written of one user."""

import msgspec

from models.windows.recent import recent_of_window
from stream.store.vectors import Vector, vector_to_bytes


class UserRow(msgspec.Struct, frozen=True, gc=False):
    """One user's vectors and what they were made from."""

    user_id: str
    #: vec, long and short, (D,) each; long and short (0,) where the model has none.
    vec: Vector
    long: Vector
    short: Vector
    #: Version of the artifact.
    model: str
    #: Epoch of the source topic, and the source offset applied last.
    epoch: int
    seq: int
    #: Event time of the newest event (ms), and how many events the window holds.
    ts: int
    n: int
    #: The window's binary value; the store writes as many of its newest events as it was told to.
    window: bytes = b""
    #: Number of the live inputs that items were read by; empty where all entered as they were trained.
    inputs: str = ""
    #: The category at which a cold-start user gets this; empty: where none is known.
    category: str = ""


def slot_values(
    row: UserRow, publication: int, written_at_ms: int, vector_format: str, history_events: int
) -> list[bytes | str | int]:
    """Return the values of `keys.FIELDS` for a row, the publication number of its model being this."""
    vectors = [vector_to_bytes(vector, vector_format) for vector in (row.vec, row.long, row.short)]
    return [
        *(row.model, publication, row.epoch, row.seq),
        *(row.ts, row.n, written_at_ms, vector_format),
        *vectors,
        recent_of_window(row.window, history_events) if history_events and row.window else b"",
        row.inputs,
    ]
