"""The bytes in Redis: key names, the fields of a user's HASH, and how a vector is written.

    user:{id}   HASH
        vec, long, short   the vectors, little-endian
        model              version of the artifact they come from
        ts                 event time of the user's newest event, ms
        n                  events in the window
        written_at         wall-clock of the write, ms
        format             how the vectors are written: float32, float16 or int8
        publication, epoch, seq   what a write is compared by: the model's publication number, the epoch
                           of the source topic, the source offset applied last

The HASH of the empty id is what a user never seen gets.
"""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]

#: Name of a stored vector format -> bytes per dimension.
VECTOR_FORMATS = {"float32": 4, "float16": 2, "int8": 1}

#: The id whose HASH holds the vector of a user never seen.
UNSEEN_USER = ""

#: The fields of a user's HASH in the order in which the store's script takes them.
FIELDS = ("publication", "epoch", "seq", "vec", "long", "short", "model", "ts", "n", "written_at", "format")

#: HASH of topic id -> epoch.
TOPIC_EPOCHS_KEY = "twintide:topic-epochs"


def vector_to_bytes(vector: Vector, vector_format: str) -> bytes:
    """Return one vector's stored form; int8 begins with its float32 scale."""
    if vector_format == "float32":
        return bytes(vector.astype("<f4").tobytes())
    if vector_format == "float16":
        return bytes(vector.astype("<f2").tobytes())
    scale = np.float32(max(float(np.abs(vector).max(initial=0.0)), 1e-12) / 127.0)
    return bytes(scale.astype("<f4").tobytes() + np.round(vector / scale).astype(np.int8).tobytes())


def vector_from_bytes(value: bytes, vector_format: str) -> Vector:
    """Return the vector (D,) of a stored form."""
    if vector_format == "float32":
        return np.frombuffer(value, "<f4").astype(np.float32)
    if vector_format == "float16":
        return np.frombuffer(value, "<f2").astype(np.float32)
    scale = np.frombuffer(value[:4], "<f4")[0]
    return np.frombuffer(value[4:], np.int8).astype(np.float32) * np.float32(scale)
