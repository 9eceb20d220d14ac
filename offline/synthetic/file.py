"""A made-up behaviour log as a CSV file of Tianchi's form."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray
from tqdm import tqdm

from models.errors import DataError
from models.log.format import TIANCHI
from offline.synthetic.behaviour import SampleRows, SampleSettings, generate

#: Rows that are turned into text at a time.
CHUNK_ROWS = 200_000
WITHOUT_HEADER = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")


def write_sample(settings: SampleSettings, out: Path, *, to_second: bool, tastes: Path | None = None) -> int:
    """Generate the log, write it to `out` whole or not at all, and return how many items occur.

    tastes: gets a line for each user, `user_id,group`, the group being the taste that the user was given.
    """
    if out.is_dir():
        raise DataError(f"{out} is a directory; give --out the path of a file in it")
    part, groups = out.with_name(out.name + ".part"), ["user_id,group\n"]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file, _progress_bar(settings.rows) as bar:
            file.write((",".join(TIANCHI.columns) + "\n").encode())
            items = np.zeros(0, np.int64)
            for block in generate(settings):
                items = np.union1d(items, block.item_id)
                users, first = np.unique(block.user_id, return_index=True)
                pairs = zip(users.tolist(), block.taste[first].tolist(), strict=True)
                groups += [f"{user},taste {taste}\n" for user, taste in pairs]
                for start in range(0, len(block.time_s), CHUNK_ROWS):
                    table = _table(block, slice(start, start + CHUNK_ROWS), to_second)
                    pyarrow.csv.write_csv(table, file, WITHOUT_HEADER)
                    bar.update(len(table))
        part.replace(out)
        if tastes is not None:
            tastes.write_text("".join(groups), encoding="utf-8")
    except OSError as error:
        name = error.filename or out
        raise DataError(f"{name}: cannot be written ({error.strerror}); choose another place") from error
    finally:
        if part.is_file():
            part.unlink()
    return len(items)


def _progress_bar(rows: int) -> "tqdm[Any]":
    return tqdm(total=rows, unit="row", unit_scale=True, desc="generating", disable=None)


def _table(sample: SampleRows, rows: slice, to_second: bool) -> Any:
    """Return some rows as an Arrow table whose columns are in the file's order."""
    geohash = pa.DictionaryArray.from_arrays(pa.array(sample.geohash[rows]), sample.geohashes)
    columns = (
        sample.user_id[rows],
        sample.item_id[rows],
        sample.behaviour[rows],
        geohash.cast(pa.string()),
        sample.category_id[rows],
        _time_texts(sample.time_s[rows], to_second),
    )
    return pa.table([pa.array(column) for column in columns], names=list(TIANCHI.columns))


def _time_texts(time_s: NDArray[np.int64], to_second: bool) -> Any:
    """Return times as YYYY-MM-DD HH, or with minutes and seconds."""
    if to_second:
        return time_s.astype("datetime64[s]")
    hours, codes = np.unique(time_s // 3600, return_inverse=True)
    texts = [str(hour).replace("T", " ") for hour in hours.astype("datetime64[h]")]
    return pa.DictionaryArray.from_arrays(pa.array(codes), texts).cast(pa.string())
