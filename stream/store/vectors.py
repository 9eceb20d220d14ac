"""How a vector is written in Redis, in one of the formats of `keys.VECTOR_FORMATS`."""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]

_FLOAT32, _FLOAT16 = np.dtype("<f4"), np.dtype("<f2")


def vector_to_bytes(vector: Vector, vector_format: str) -> bytes:
    """Return one vector's stored form, empty of an empty one; int8 begins with its float32 scale."""
    if not len(vector):
        return b""
    if vector_format == "float32":
        return vector.astype(_FLOAT32, copy=False).tobytes()
    if vector_format == "float16":
        return vector.astype(_FLOAT16).tobytes()
    scale = np.float32(max(float(np.abs(vector).max(initial=0.0)), 1e-12) / 127.0)
    return scale.astype(_FLOAT32).tobytes() + np.round(vector / scale).astype(np.int8).tobytes()


def vector_from_bytes(value: bytes, vector_format: str) -> Vector:
    """Return the vector (D,) of a stored form, (0,) of an empty one."""
    if vector_format == "float32":
        return np.frombuffer(value, _FLOAT32).astype(np.float32)
    if vector_format == "float16":
        return np.frombuffer(value, _FLOAT16).astype(np.float32)
    if not value:
        return np.zeros(0, np.float32)
    scale = np.frombuffer(value[:4], _FLOAT32)[0]
    return np.frombuffer(value[4:], np.int8).astype(np.float32) * np.float32(scale)
