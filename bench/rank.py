"""`./run bench rank`: how long whoever ranks 500 candidates of a user waits, Redis included."""

import http.client
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import redis
import torch

from bench.harness.artifact import publish_untrained
from bench.harness.report import Report, Result, print_table
from bench.harness.timing import percentiles, seconds_of
from local.serving import ServingProcess
from models.artifact import artifact as artifacts
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.vocabulary import Vocabulary
from models.rankers.artifact import save_ranker
from models.rankers.kinds import make_ranker
from models.rankers.settings import KINDS, RankerSettings
from models.windows.window import Window, window_to_bytes
from stream.encoding.encoder import Encoder
from stream.serving import Ranker, Reader, Recommender
from stream.store.clients import redis_client
from stream.store.connection import RedisConnection
from stream.store.vector_store import Store, StoreSettings

#: Events of a user's window, all of them stored.
EVENTS = 110
CATEGORIES = 200
#: What scores: item vectors alone, and each ranker.
SCORERS = ("dot", *KINDS)
#: Calls before any that count, and how many different ones there are; more ask the same again.
WARM_UP, QUESTIONS = 20, 2_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    users: int
    items: int
    candidates: int
    callers: int
    calls: int
    threads: int
    features: bool = True


SMOKE = Scale(users=20, items=500, candidates=50, callers=4, calls=40, threads=2)


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--scorers", default=",".join(SCORERS), show_default=True, help="What scores, by commas.")
@click.option("--candidates", default=500, show_default=True, help="Candidates of a call.")
@click.option("--callers", default=50, show_default=True, help="Callers of the API at once (0: no API).")
@click.option("--calls", default=2_000, show_default=True, help="Calls of each scorer, each way.")
@click.option("--threads", default=2, show_default=True, help="Threads that score a call's candidates.")
@click.option("--features/--no-features", default=True, show_default=True, help="Rankers read features.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="20 users, 50 candidates, to see that it works.")
def main(
    scorers: str,
    candidates: int,
    callers: int,
    calls: int,
    threads: int,
    features: bool,
    json_path: Path | None,
    smoke: bool,
) -> None:
    """Measure calls that rank candidates of one user each, on the Redis that the environment names.

    Once as a library, one call after the other: vector and 110 events from Redis, scores, order; cpu_ms is
    what a call costs whatever else runs. And over HTTP, many callers at once, who each wait for their answer
    before they ask again. The rankers are untrained: that costs the same. `last_to_first`: the 99th
    percentile of the last tenth of the calls as a multiple of the first tenth's; with --calls 1000000 it
    shows whether anything drifts.

    \b
    Example: ./run bench rank --scorers din,dsin --json rank.json
    """
    log_to_stderr()
    names = [name.strip() for name in scorers.split(",") if name.strip()]
    if unknown := set(names) - set(SCORERS):
        raise SettingsError(f"--scorers has {', '.join(sorted(unknown))}; there are {', '.join(SCORERS)}")
    scale = SMOKE if smoke else Scale(1_000, 20_000, candidates, callers, calls, threads)
    scale = replace(scale, features=features)
    if min(scale.candidates, scale.threads) < 1 or scale.callers < 0 or scale.calls < max(10, scale.callers):
        raise SettingsError(
            "--candidates and --threads must be at least 1, --callers at least 0, --calls at least 10 and a "
            "call of each"
        )
    report = run(names, scale)
    _print(report)
    if json_path:
        report.write(json_path)


def run(scorers: Sequence[str], scale: Scale) -> Report:
    """Measure everything, and return what was found."""
    results: dict[str, Result] = {}
    with _shop(scale) as shop:
        for name in scorers:
            results |= shop.measure(name)
    settings = {
        **{"users": scale.users, "items": scale.items, "candidates": scale.candidates, "events": EVENTS},
        **{"callers": scale.callers, "calls": scale.calls, "threads": scale.threads},
        "features": scale.features,
    }
    return Report(settings, results)


@dataclass(frozen=True, slots=True)
class _Shop:
    """Users in Redis, item vectors and rankers on disk."""

    scale: Scale
    client: "redis.Redis"
    prefix: str
    directory: Path
    vocabulary: Vocabulary

    def measure(self, scorer: str) -> dict[str, Result]:
        """Return how one scorer does, as a library and over HTTP."""
        ranker = None if scorer == "dot" else self._save_ranker(scorer)
        reader = Reader(self.client, key_prefix=self.prefix)
        recommender = Recommender(reader, self.directory / "artifacts")
        library = Ranker(reader, recommender, ranker, threads=self.scale.threads)
        questions = list(self._questions())

        def ask(question: tuple[str, list[str]]) -> None:
            if len(library.rank(*question).item_ids) != self.scale.candidates:
                raise TwintideError("a candidate has no score")

        seconds_of(ask, questions[:WARM_UP])
        cpu_started = time.process_time()
        alone = _figures(seconds_of(ask, islice(cycle(questions), self.scale.calls)))
        alone["cpu_ms"] = (time.process_time() - cpu_started) / self.scale.calls * 1e3
        if not self.scale.callers:
            return {scorer: alone}
        return {scorer: alone, f"{scorer}-http": self._measure_http(scorer, ranker, questions)}

    def _measure_http(
        self, scorer: str, ranker: Path | None, questions: Sequence[tuple[str, list[str]]]
    ) -> Result:
        """Return how the API does while many ask at once."""
        environment = {
            "REDIS_URL": RedisConnection.from_environment(os.environ).url,
            "TWINTIDE_KEY_PREFIX": self.prefix,
            "TWINTIDE_ARTIFACT": str(self.directory / "artifacts"),
            "TWINTIDE_RANKER": str(ranker or ""),
            "TWINTIDE_RANKER_THREADS": str(self.scale.threads),
        }
        callers = range(self.scale.callers)
        counts = [len(range(caller, self.scale.calls, len(callers))) for caller in callers]
        portions = [questions[caller :: len(callers)] for caller in callers]
        serving = ServingProcess(self.directory / f"serving-{scorer}", environment)
        try:
            serving.start()
            with ThreadPoolExecutor(self.scale.callers) as pool:
                list(pool.map(lambda some: _ask_all(serving.port, some, 1), portions))
                started = time.perf_counter()
                times = list(pool.map(lambda *own: _ask_all(serving.port, *own), portions, counts))
                seconds = time.perf_counter() - started
        finally:
            serving.stop()
        interleaved = [times[n % len(times)][n // len(times)] for n in range(self.scale.calls)]
        return _figures(interleaved) | {"calls_per_second": self.scale.calls / seconds}

    def _questions(self) -> Iterator[tuple[str, list[str]]]:
        random = np.random.default_rng(2)
        for _ in range(min(self.scale.calls, max(QUESTIONS, self.scale.callers))):
            items = random.integers(self.scale.items, size=self.scale.candidates)
            yield (
                _user_id(int(random.integers(self.scale.users))),
                [_item_id(item) for item in items.tolist()],
            )

    def _save_ranker(self, kind: str) -> Path:
        torch.manual_seed(0)
        settings = RankerSettings(kind=kind, features=self.scale.features)  # type: ignore[arg-type]
        store = self.directory / "rankers"
        ranker = make_ranker(self.vocabulary, settings)
        return store / save_ranker(store, ranker, self.vocabulary, {}, {}).version

    def write_users(self) -> None:
        """Write full windows of all users, as a worker does."""
        artifact = artifacts.load(self.directory / "artifacts")
        store = Store(self.client, StoreSettings(key_prefix=self.prefix, history_events=EVENTS))
        store.registry.serve(artifact.version, 1)
        encoder, random = Encoder(artifact), np.random.default_rng(1)
        users = [(_user_id(user), self._window(random)) for user in range(self.scale.users)]
        store.upsert(encoder.cold_start_rows())
        store.upsert(encoder.rows(users, epoch=1))

    def _window(self, random: np.random.Generator) -> bytes:
        items = random.integers(self.scale.items, size=EVENTS).tolist()
        ids, now_ms = [_item_id(item) for item in items], int(time.time() * 1000)
        pauses = random.exponential(1_200_000, EVENTS).astype(int)  # 20 minutes: some sessions, some breaks
        times = (now_ms - np.cumsum(pauses)[::-1]).tolist()
        categories = [str(item % CATEGORIES) for item in items]
        hashes = list(range(EVENTS))
        return window_to_bytes(
            Window("bench", 0, EVENTS, EVENTS, 0, 0, times, [1] * EVENTS, ids, categories, hashes)
        )


@contextmanager
def _shop(scale: Scale) -> Iterator[_Shop]:
    """Give a shop whose keys and files are removed at the end."""
    prefix = f"bench-{os.getpid()}:user:"
    vocabulary = Vocabulary(
        [_item_id(item) for item in range(scale.items)],
        [2 + item % CATEGORIES for item in range(scale.items)],
        [str(category) for category in range(CATEGORIES)],
    )
    with (
        tempfile.TemporaryDirectory() as directory,
        redis_client(RedisConnection.from_environment(os.environ)) as client,
    ):
        shop = _Shop(scale, client, prefix, Path(directory), vocabulary)
        try:
            publish_untrained(shop.directory / "artifacts", vocabulary)
            shop.write_users()
            yield shop
        finally:
            for key in client.scan_iter(f"*bench-{os.getpid()}:*", count=1_000):
                client.unlink(key)


def _user_id(user: int) -> str:
    return str(142_455_899 + 7 * user)


def _item_id(item: int) -> str:
    return str(232_431_562 + 13 * item)


def _ask_all(port: int, questions: Sequence[tuple[str, list[str]]], calls: int) -> list[float]:
    """Return how long each of so many calls took (s), one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    bodies = [json.dumps({"users": [{"user_id": user, "candidates": items}]}) for user, items in questions]

    def ask(body: str) -> None:
        connection.request("POST", "/rank", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise TwintideError(f"the API answers {answer.status}: {text[:200]!r}")

    try:
        return seconds_of(ask, islice(cycle(bodies), calls))
    finally:
        connection.close()


def _figures(times: Sequence[float]) -> Result:
    tenth = len(times) // 10
    first, last = (percentiles(some)["p99_ms"] for some in (times[:tenth], times[-tenth:]))
    return percentiles(times) | {"last_to_first": last / first}


def _print(report: Report) -> None:
    formats = {"p50_ms": ".1f", "p99_ms": ".1f", "last_to_first": ".2f"}
    ways: dict[str, Callable[[str], bool]] = {
        "rank: one call after the other, as a library": lambda name: not name.endswith("-http"),
        f"rank: {report.settings['callers']} callers at once, over HTTP": lambda name: name.endswith("-http"),
    }
    for title, is_of in ways.items():
        found: dict[str, Any] = {name: result for name, result in report.results.items() if is_of(name)}
        more = {"calls_per_second": ",.0f"} if "HTTP" in title else {"cpu_ms": ".1f"}
        if found:
            print_table(title, found, formats | more)


if __name__ == "__main__":
    main(prog_name="./run bench rank")
