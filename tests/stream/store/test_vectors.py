"""How a vector is written."""

import numpy as np
import pytest

from stream.store.keys import VECTOR_FORMATS, VectorFormat
from stream.store.vectors import vector_from_bytes, vector_to_bytes


@pytest.mark.parametrize(("vector_format", "loss"), [("float32", 0.0), ("float16", 1e-3), ("int8", 1e-2)])
def test_vector_round_trips_within_its_formats_loss(vector_format: str, loss: float) -> None:
    vector = np.random.default_rng(0).normal(size=128).astype(np.float32)
    again = vector_from_bytes(vector_to_bytes(vector, vector_format), vector_format)
    assert again.dtype == np.float32
    assert np.abs(again - vector).max() <= loss * np.abs(vector).max()


@pytest.mark.parametrize("vector_format", VECTOR_FORMATS)
def test_stored_size_is_what_the_format_says(vector_format: VectorFormat) -> None:
    scale_bytes = 4 if vector_format == "int8" else 0
    stored = vector_to_bytes(np.ones(128, np.float32), vector_format)
    assert len(stored) == 128 * VECTOR_FORMATS[vector_format] + scale_bytes


def test_float32_is_little_endian() -> None:
    assert vector_to_bytes(np.array([1.0], np.float32), "float32") == b"\x00\x00\x80\x3f"


@pytest.mark.parametrize("vector_format", VECTOR_FORMATS)
def test_zero_vector_stays_zero(vector_format: str) -> None:
    stored = vector_to_bytes(np.zeros(8, np.float32), vector_format)
    assert not vector_from_bytes(stored, vector_format).any()
