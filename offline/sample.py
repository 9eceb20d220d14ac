"""`python -m offline.sample`: write a made-up behaviour log of Tianchi's form, at any size."""

from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray
from tqdm import tqdm

from models.command import Command
from models.errors import DataError, SettingsError
from models.log.format import TIANCHI
from offline.synthetic.behaviour import TIANCHI_ROWS, SampleRows, SampleSettings, generate

TIANCHI_USERS = 10_000
#: Rows that are turned into text at a time.
CHUNK_ROWS = 200_000
WITHOUT_HEADER = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")


@click.command(cls=Command)
@click.option("--users", default=2_000, show_default=True, help="Users, each with at least one row.")
@click.option("--rows", default=200_000, show_default=True, help="Rows (events).")
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same file.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("data/behaviour.csv"), show_default=True,
    help="The file to write; replaced if it exists.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["hour", "second"]), default="hour", show_default=True,
    help="How exactly times are written; the real file knows only the hour.",
)  # fmt: skip
@click.option(
    "--like-tianchi", is_flag=True,
    help=f"As large as the real file: {TIANCHI_USERS:,} users, {TIANCHI_ROWS:,} rows, 2.8 million items.",
)  # fmt: skip
@click.pass_context
def main(
    context: click.Context, users: int, rows: int, seed: int, out: Path, precision: str, like_tianchi: bool
) -> None:
    """Write a made-up behaviour log (CSV) of Tianchi's form, with structure worth learning.

    Users' drifting interests, sessions, successions of items, new items, the daily rhythm and the sale of
    12 December; not in time order, as the real file is not. For example:

    \b
        python -m offline.sample --users 2000 --rows 200000 --seed 7 --out data/behaviour.csv
    """
    if like_tianchi:
        for name in ("users", "rows"):
            if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                raise SettingsError(f"--{name} and --like-tianchi both say how large: give one of them")
        users, rows = TIANCHI_USERS, TIANCHI_ROWS
    sample = write_sample(SampleSettings(users, rows, seed), out, to_second=precision == "second")
    items = len(np.unique(sample.item_id))
    click.echo(f"path={out} rows={rows} users={users} items={items}")


def write_sample(settings: SampleSettings, out: Path, *, to_second: bool) -> SampleRows:
    """Generate the log, write it to `out` whole or not at all, and return its rows."""
    if out.is_dir():
        raise DataError(f"{out} is a directory; give --out the path of a file in it")
    part = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file, _progress_bar(settings.rows) as bar:
            sample = generate(settings)
            bar.set_description("writing")
            file.write((",".join(TIANCHI.columns) + "\n").encode())
            for start in range(0, settings.rows, CHUNK_ROWS):
                table = _table(sample, slice(start, start + CHUNK_ROWS), to_second)
                pyarrow.csv.write_csv(table, file, WITHOUT_HEADER)
                bar.update(len(table))
        part.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        if part.is_file():
            part.unlink()
    return sample


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


if __name__ == "__main__":
    main()
