"""Users' and items' vectors as Parquet files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from models.artifact.artifact import Artifact
from offline.exporting.users import EncodedUsers, cold_start_user


def export_to_parquet(artifact: Artifact, users: EncodedUsers, out: Path) -> tuple[Path, Path]:
    """Write users.parquet and items.parquet into `out`; the dot product of two vecs is the score.

    The last row of the users has an empty user_id and ts 0: what a cold-start user gets. A model
    without long and short vectors has no columns of them.
    """
    out.mkdir(parents=True, exist_ok=True)
    cold_start = cold_start_user(artifact)
    columns = {"user_id": pa.array([*users.user_ids, ""], pa.string())}
    for column, name in (("vec", "user"), ("long", "long"), ("short", "short")):
        own, stranger = getattr(users.vectors, name), getattr(cold_start, name)
        if own.shape[1]:
            columns[column] = _list_array(np.concatenate([own, stranger]))
    columns["ts"] = pa.array(np.append(users.ts_ms, 0), pa.int64())
    items = {
        "item_id": pa.array(artifact.item_ids, pa.string()),
        "vec": _list_array(artifact.item_vectors),
    }
    paths = out / "users.parquet", out / "items.parquet"
    for path, table in zip(paths, (pa.table(columns), pa.table(items)), strict=True):
        pyarrow.parquet.write_table(table, path)
    return paths


def _list_array(matrix: npt.NDArray[np.float32]) -> pa.Array:
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel(), pa.float32()))
