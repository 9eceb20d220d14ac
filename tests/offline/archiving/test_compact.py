"""What docs/data.md says of compacting a day is right."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest

from models.log.times import DAY_MS
from offline.archiving.directory import Progress, opened
from offline.archiving.rows import SCHEMA
from tests.docs.markdown import DOCS


def script() -> str:
    return (DOCS / "data.md").read_text().partition(f"{Path(__file__).name} runs this")[2].split("```")[1][7:]


def rows(first: int, event_ids: list[str | None]) -> Any:
    count = len(event_ids)
    columns = {
        "event_id": event_ids,
        **{name: ["x"] * count for name in ("user_id", "item_id", "item_category")},
        "behavior_type": [1] * count,
        "user_geohash": [None] * count,
        "time": [16_400 * DAY_MS] * count,
        "partition": [0] * count,
        "offset": [*range(first, first + count)],
    }
    return pa.table(columns, SCHEMA)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_day_becomes_one_file_with_each_event_once(tmp_path: Path, is_interrupted: bool) -> None:
    with opened(tmp_path, "t") as archive:
        archive.add(rows(0, ["a", "b", None]), Progress("t"))
        archive.add(rows(3, ["b", None, "c"]), Progress("t"))
        archive.add(rows(6, ["a", "d"]), Progress("t"))
    (day,) = tmp_path.glob("day=*")
    earlier = (day / "part-00000001.parquet").read_bytes()
    for _ in range(1 + is_interrupted):
        subprocess.run([sys.executable, "-c", script(), str(day)], check=True, timeout=60)
        assert [file.name for file in day.iterdir()] == ["part-00000003.parquet"]
        found = pyarrow.parquet.ParquetFile(day / "part-00000003.parquet").read()
        assert found.schema.equals(SCHEMA)
        assert sorted(found.column("offset").to_pylist()) == [0, 1, 2, 4, 5, 7]
        (day / "part-00000001.parquet").write_bytes(earlier)  # as if it had ended before it was removed
    (day / "part-00000001.parquet").unlink()
    with opened(tmp_path, "t") as archive:
        archive.add(rows(8, ["e"]), Progress("t"))
    assert pyarrow.dataset.dataset(tmp_path, partitioning="hive").to_table().num_rows == 7
