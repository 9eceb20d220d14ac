"""`./run bench loading`: how fast a log is read, sorted and made ready to learn from, in how much memory."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import duckdb

from bench.harness.report import Report, Result, print_table
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.cache import read_cached
from models.log.content import PARQUET, kind_of
from models.log.files import find_files
from models.log.format import LogFormat, log_format_option, read_log_format
from offline.options import data_path_option
from offline.training.learner import Course, Learner
from offline.training.parallel import one_process
from offline.training.selection import prepare, untrained
from offline.training.settings import read_config

#: Read from its files, with the cache empty, and sorted by user and time; the same by DuckDB, into a Parquet
#: file; and from the cache to all that the first step of a training needs.
READ, SORT, LEARN = "twintide, read and sort", "DuckDB, read and sort", "twintide, until the first step"
COLUMNS = {"rows": ",.0f", "s": ",.1f", "cpu s": ",.1f", "rows/s": ",.0f", "peak GB": ".2f"}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@data_path_option
@log_format_option
@click.option("--duckdb-gb", default=4.0, show_default=True, help="Memory that DuckDB may use; 0: no DuckDB.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(data_path: tuple[str, ...], log_format: str, duckdb_gb: float, json_path: Path | None) -> None:
    """Read a log as training does, each way in a process of its own, whose largest memory is shown.

    That is all memory that the process had at one time, PyTorch's and pages of files included. The log's
    files are on a disk of this machine; "until the first step" begins with the log in the cache.

    \b
    Example:
      python -m offline.sample --users 1000000 --rows 100000000 --out data/large.csv
      ./run bench loading --data-path data/large.csv --json loading.json
    """
    log_to_stderr()
    if duckdb_gb < 0:
        raise SettingsError(f"--duckdb-gb {duckdb_gb:g}: 0 is the least")
    own = read_log_format(log_format)
    with TemporaryDirectory(prefix="twintide-loading-") as folder:
        results = {READ: _apart(_read, data_path, own, Path(folder) / "cache")}
        if duckdb_gb:
            rows = results[READ]["rows"]
            results[SORT] = _apart(_sort, data_path, own, Path(folder), duckdb_gb) | {"rows": rows}
        results[LEARN] = _apart(_prepare, data_path, own, Path(folder) / "cache")
    for each in results.values():
        each["rows/s"] = each["rows"] / each["s"]
    report = Report({"data": list(data_path), "duckdb_gb": duckdb_gb}, results)
    report.compare(READ, (SORT,), "rows/s")
    print_table(", ".join(data_path), results, COLUMNS)
    if json_path:
        report.write(json_path)


def _apart(work: Callable[..., int], *arguments: object) -> Result:
    """Return the figures of work, which returns how many rows it was, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (work, arguments))


def _measured(work: Callable[..., int], arguments: Sequence[object]) -> Result:
    started, started_cpu = time.monotonic(), time.process_time()
    rows = work(*arguments)
    took = {"s": time.monotonic() - started, "cpu s": time.process_time() - started_cpu}
    return {"rows": float(rows), **took, "peak GB": _peak_gb()}


def _peak_gb() -> float:
    """Return the most memory that this process had. (getrusage's is also that of whoever started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak_kb,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak_kb) * 1024 / 1e9


def _read(paths: tuple[str, ...], log_format: LogFormat, cache: Path) -> int:
    log = read_cached(paths, log_format, cache)
    return len(log.by_user())


def _sort(paths: tuple[str, ...], log_format: LogFormat, folder: Path, memory_gb: float) -> int:
    """Sort the rows by user and time into a Parquet file, as DuckDB by itself does."""
    files = find_files(paths)
    read = "read_parquet" if kind_of(files[0]) == PARQUET else "read_csv"
    names = [file.path.replace("'", "''") for file in files]
    columns = (log_format.source("user").label, log_format.time_column)
    order = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    listed = ", ".join(f"'{name}'" for name in names)
    out = folder / "sorted.parquet"
    with closing(duckdb.connect()) as database:
        database.execute(f"SET memory_limit = '{memory_gb}GB'; SET temp_directory = '{folder}'")
        database.execute(f"COPY (SELECT * FROM {read}([{listed}]) ORDER BY {order}) TO '{out}'")
    out.unlink()
    return 0


def _prepare(paths: tuple[str, ...], log_format: LogFormat, cache: Path) -> int:
    log, config = read_cached(paths, log_format, cache), read_config(None, {})
    ground = prepare(log, config)
    train = ground.pieces["train"]
    towers = untrained(ground.vocabulary, ground.settings, train, config.train)
    processes = one_process(config.train.device)
    Learner(towers, train, config.train, Course(1, ground.half_lives.popularity_h), processes)
    return len(log)


if __name__ == "__main__":
    main()
