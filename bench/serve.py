"""`./run bench serve`: what compare-and-set costs, how long readers wait, what approximate search misses."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import redis

from bench.harness.clusters import clustered_vectors
from bench.harness.report import Report, Result, print_table
from bench.harness.timing import percentiles, seconds_of
from models.arrays import Floats
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from stream.serving.item_index import AnnIndex, ExactIndex, Index, search_recall
from stream.serving.reader import Reader
from stream.store.clients import redis_client
from stream.store.connection import RedisConnection
from stream.store.keys import COLD_START_USER, VECTOR_FORMATS
from stream.store.user_row import UserRow
from stream.store.vector_store import Store, StoreSettings
from stream.store.vectors import vector_from_bytes, vector_to_bytes

DIMENSION = 128
#: Users of one write, as the worker's default batch, and the sizes of a read.
BATCH, READS = 256, (1, 100)
#: Repeats of writing all users, the two ways in turn.
REPEATS = 25
#: Items that a search is asked for.
BEST = 100
MODEL = "0123456789ab"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    users: int
    items: int
    reads: int
    queries: int


SMOKE = Scale(users=512, items=2_000, reads=20, queries=20)


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--users", default=10_000, show_default=True, help="Users that are written and read.")
@click.option("--items", default=100_000, show_default=True, help="Items that are searched.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="512 users, 2,000 items, to see that it works.")
def main(users: int, items: int, json_path: Path | None, smoke: bool) -> None:
    """Measure writing, reading and searching, on the Redis that the environment names.

    Writing: the store's compare-and-set upserts, and a bare pipeline of HSETs of the same fields and values,
    in batches of 256 users, all users each time and the two ways in turn; the ratio is of the medians. Both
    make the vectors' bytes. Reading: vectors of 1 and of 100 users, one round trip each. Searching: the
    100 best of the items, exact and approximate, for users who are drawn around the items' own clusters; the
    recall is that of approximate search. Formats: what float16 and int8 change in the 100 best.

    \b
    Example: ./run bench serve --json serve.json
    """
    log_to_stderr()
    report = run(SMOKE if smoke else Scale(users=users, items=items, reads=2_000, queries=500))
    _print(report)
    if json_path:
        report.write(json_path)


def run(scale: Scale) -> Report:
    """Measure everything, and return what was found."""
    if scale.users < max(READS) or scale.items < BEST:
        raise SettingsError(f"--users must be at least {max(READS)}, and --items at least {BEST}")
    results: dict[str, Result] = {}
    with _redis() as (client, prefix):
        results |= _measure_writes(client, prefix, scale)
        results |= _measure_reads(client, prefix, scale)
    results |= _measure_search(scale)
    settings = {
        **{"users": scale.users, "items": scale.items, "dimension": DIMENSION, "batch": BATCH},
        **{"repeats": REPEATS, "best": BEST, "format": "float32"},
    }
    report = Report(settings, results)
    report.compare("upsert", ("hset",), "users_per_second")
    return report


@contextmanager
def _redis() -> Iterator[tuple["redis.Redis", str]]:
    """Give a client and a key prefix of our own; what it holds is removed at the end."""
    prefix = f"bench-{os.getpid()}:"
    with redis_client(RedisConnection.from_environment(os.environ)) as client:
        try:
            yield client, prefix
        finally:
            for key in client.scan_iter(f"*{prefix}*", count=1_000):
                client.unlink(key)


def _rows(users: int, seq: int) -> list[UserRow]:
    vectors = np.random.default_rng(0).normal(size=(3, users, DIMENSION)).astype(np.float32)
    return [
        UserRow(
            user_id=str(142_455_899 + 7 * number),
            vec=vectors[0, number],
            long=vectors[1, number],
            short=vectors[2, number],
            model=MODEL,
            epoch=1_795_600_000_000,
            seq=seq,
            ts=1_418_860_801_000,
            n=110,
        )
        for number in range(users)
    ]


def _measure_writes(client: "redis.Redis", prefix: str, scale: Scale) -> dict[str, Result]:
    store = Store(client, StoreSettings(key_prefix=f"{prefix}user:"))
    store.registry.serve(MODEL, 1)
    seconds: dict[str, list[float]] = {"upsert": [], "hset": []}
    for repeat in range(REPEATS + 1):  # the first is not counted: it makes the keys
        rows = _rows(scale.users, repeat)
        ways: dict[str, Callable[[Sequence[UserRow]], None]] = {
            "upsert": lambda some: _upsert(store, some),
            "hset": lambda some: _hset(client, f"{prefix}plain:", some),
        }
        for name in sorted(ways, reverse=bool(repeat % 2)):
            started = time.perf_counter()
            for start in range(0, len(rows), BATCH):
                ways[name](rows[start : start + BATCH])
            seconds[name].append(time.perf_counter() - started)
    return {
        name: {
            "users_per_second": scale.users / float(np.median(times[1:])),
            "ms_per_batch": float(np.median(times[1:])) / -(-scale.users // BATCH) * 1e3,
        }
        for name, times in seconds.items()
    }


def _upsert(store: Store, rows: Sequence[UserRow]) -> None:
    if store.upsert(rows) != len(rows):
        raise TwintideError("a newer row was taken for an older one")


def _hset(client: "redis.Redis", prefix: str, rows: Sequence[UserRow]) -> None:
    pipeline = client.pipeline(transaction=False)
    for row in rows:
        fields: dict[Any, Any] = {
            **{"model": row.model, "publication": 1, "epoch": row.epoch, "seq": row.seq, "ts": row.ts},
            **{"n": row.n, "written_at": int(time.time() * 1000), "format": "float32"},
            **{"vec": vector_to_bytes(row.vec, "float32"), "long": vector_to_bytes(row.long, "float32")},
            **{"short": vector_to_bytes(row.short, "float32"), "history": b""},
        }
        pipeline.hset(prefix + row.user_id, mapping=fields)
    pipeline.execute()


def _measure_reads(client: "redis.Redis", prefix: str, scale: Scale) -> dict[str, Result]:
    store = Store(client, StoreSettings(key_prefix=f"{prefix}user:"))
    rows = _rows(scale.users, REPEATS + 1)
    cold_start = UserRow(COLD_START_USER, *(rows[0].vec,) * 3, MODEL, 0, 0, 0, 0)
    store.upsert([cold_start])
    reader = Reader(client, key_prefix=f"{prefix}user:")
    random = np.random.default_rng(1)
    results = {}
    for count in READS:
        asked = [
            [rows[number].user_id for number in random.choice(scale.users, count, replace=False)]
            for _ in range(scale.reads)
        ]
        times = seconds_of(partial(_check, reader), asked)
        results[f"read-{count}"] = percentiles(times)
    return results


def _check(reader: Reader, user_ids: Sequence[str]) -> None:
    if any(each.reason for each in reader.read(user_ids)):
        raise TwintideError("a user who was written is not read")


def _best_items(index: Index, user: Floats) -> npt.NDArray[np.int64]:
    return index.search(user, BEST)[0]


def _measure_search(scale: Scale) -> dict[str, Result]:
    random = np.random.default_rng(2)
    centres = random.normal(size=(min(500, scale.items // 100), 24)).astype(np.float32)
    items = clustered_vectors(random, centres, DIMENSION, scale.items)
    users = clustered_vectors(random, centres, DIMENSION, scale.queries)
    results: dict[str, Result] = {}
    exact: list[npt.NDArray[np.int64]] = []
    for name, make in (("exact", ExactIndex), ("ann", AnnIndex)):
        started = time.perf_counter()
        index: Index = make(items)
        build_s = time.perf_counter() - started
        found = [_best_items(index, user) for user in users]
        exact = exact or found
        times = seconds_of(partial(_best_items, index), users)
        results[name] = percentiles(times) | {"recall": search_recall(found, exact), "build_s": build_s}
    for vector_format in VECTOR_FORMATS:
        stored = np.stack(
            [vector_from_bytes(vector_to_bytes(user, vector_format), vector_format) for user in users]
        )
        found = [_best_items(ExactIndex(items), user) for user in stored]
        norms = np.linalg.norm(stored, axis=1) * np.linalg.norm(users, axis=1)
        results[vector_format] = {
            "bytes_per_vector": float(len(vector_to_bytes(users[0], vector_format))),
            "mean_cosine": float(((stored * users).sum(axis=1) / norms).mean()),
            "same_of_best": search_recall(found, exact),
        }
    return results


def _print(report: Report) -> None:
    tables: dict[str, tuple[Sequence[str], dict[str, str]]] = {
        "serve: writing users": (("upsert", "hset"), {"users_per_second": ",.0f", "ms_per_batch": ".1f"}),
        "serve: reading users": (
            [f"read-{count}" for count in READS],
            {"p50_ms": ".2f", "p99_ms": ".2f"},
        ),
        "serve: the 100 best items": (
            ("exact", "ann"),
            {"p50_ms": ".2f", "p99_ms": ".2f", "recall": ".3f", "build_s": ".1f"},
        ),
        "serve: stored formats": (
            tuple(VECTOR_FORMATS),
            {"bytes_per_vector": ".0f", "mean_cosine": ".6f", "same_of_best": ".4f"},
        ),
    }
    for title, (names, formats) in tables.items():
        print_table(title, {name: report.results[name] for name in names}, formats)
    for ratio_name, ratio in report.ratios.items():
        click.echo(f"{ratio_name} {ratio:.2f}x")


if __name__ == "__main__":
    main(prog_name="./run bench serve")
