"""`./run bench encode`: users per second from binary windows to vectors, beside a naive PyTorch loop."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

from bench.harness.artifact import publish_untrained
from bench.harness.behaviour import expected_windows, make_log
from bench.harness.report import Report, Result, print_table
from models import artifact as artifacts
from models.artifact import Artifact
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.features import Tokens, features, histories_of_windows
from models.inference import Inference, Vectors
from models.layers import at_places
from models.padded import PaddedTowers
from models.vocabulary import vocabulary_of_log
from models.window import WindowSettings, window_to_bytes

#: Vectors that differ by more are not the same (float32), and those of a GPU in bfloat16.
TOLERANCE = 1e-4
EVENTS_PER_USER = 60
#: Users encoded at once: by Twintide as its worker does, by the naive loop whatever suits it best.
BATCH_USERS, EAGER_BATCHES = 256, (16, 64, 256)
SMOKE_USERS = 300
ROUNDS = 3

FORMATS = {"users/s": ",.0f", "us per user": ",.1f", "largest difference": ".1e"}

#: What makes vectors of some windows' binary values.
Encode = Callable[[Sequence[bytes]], Vectors]


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--users", default=5_000, show_default=True, help="Users, with a heavy tail of lengths.")
@click.option("--threads", default=1, show_default=True, help="PyTorch's threads, for every contestant.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="300 users, to see that it works; figures mean nothing.")
def main(users: int, threads: int, json_path: Path | None, smoke: bool) -> None:
    """Measure users per second from binary windows to vectors in host memory.

    Twintide encodes each user once, so that no kept vector helps it. The naive loop, eager, does the same
    with the same towers as one would write it: a batch is padded to its longest user, both towers run at
    every place, and the newest place's vector is taken; inference mode, no autograd; its batch size is the
    best of 16, 64 and 256. Both read windows and make features by the same vectorised code. Each runs three
    times through all users, in turn; the median counts. All vectors must be the same to 1e-4, else the
    benchmark fails. Where there is a GPU, cuda runs the towers on it, in length buckets, in float32.

    \b
    Example: ./run bench encode --json encode.json
    """
    log_to_stderr()
    if min(users, threads) < 1:
        raise SettingsError("--users and --threads must be at least 1")
    report = run(SMOKE_USERS if smoke else users, threads)
    _print(report)
    if json_path:
        report.write(json_path)


def run(users: int, threads: int) -> Report:
    """Measure every contestant, and return what was found."""
    torch.set_num_threads(threads)
    log = make_log(users * EVENTS_PER_USER, users)
    windows = expected_windows(log, WindowSettings())
    values = [window_to_bytes(window) for window in windows.values()]
    values = [values[place] for place in np.random.default_rng(0).permutation(len(values))]
    with tempfile.TemporaryDirectory() as store:
        publish_untrained(Path(store), vocabulary_of_log(log))
        artifact = artifacts.load(Path(store))
        eager_batch = min(EAGER_BATCHES, key=lambda size: _seconds(Naive(artifact), values[:1_000], size))
        contestants: dict[str, tuple[Encode, int]] = {
            "eager": (Naive(artifact), eager_batch),
            "twintide": (Ours(artifact, artifact.inference), BATCH_USERS),
        }
        if torch.cuda.is_available():
            on_gpu = Inference(
                artifact.towers, artifact.settings.features, PaddedTowers(artifact.towers, "cuda")
            )
            contestants["cuda"] = Ours(artifact, on_gpu), 4 * BATCH_USERS
        results = _race(contestants, values)
    lengths = [len(window) for window in windows.values()]
    settings = {
        "users": len(values),
        "events_per_user": statistics.mean(lengths),
        "full_windows": sum(length == max(lengths) for length in lengths),
        "threads": threads,
        "batch_users": {name: batch for name, (_, batch) in contestants.items()},
        "torch": torch.__version__,
    }
    report = Report(settings, results)
    report.compare("twintide", ("eager",), "users_per_second")
    report.compare("cuda", ("eager",), "users_per_second")
    return report


@dataclass(frozen=True, slots=True)
class Ours:
    """Twintide's encoder."""

    artifact: Artifact
    inference: Inference

    def __call__(self, values: Sequence[bytes]) -> Vectors:
        return self.inference.encode_pass(histories_of_windows(values, self.artifact.vocabulary))


@dataclass(frozen=True, slots=True)
class Naive:
    """The same towers, padded to the longest of the batch, at every place."""

    artifact: Artifact

    @torch.inference_mode()
    def __call__(self, values: Sequence[bytes]) -> Vectors:
        towers = self.artifact.towers
        histories = histories_of_windows(values, self.artifact.vocabulary)
        batch = features(histories, self.artifact.settings.features)
        long = towers.long_vectors(towers.embed(batch.long), None)  # (B, T, D)
        beginning = torch.zeros_like(batch.short.item)
        short = towers.short_vectors(towers.embed(batch.short), None, beginning)  # (B, K, D)
        mixed = towers.mix(
            _newest(batch.long, long, towers.unseen_long), _newest(batch.short, short, towers.unseen_short)
        )
        return Vectors(mixed.user.numpy(), mixed.long.numpy(), mixed.short.numpy())


def _newest(tokens: Tokens, vectors: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
    """Return the vectors (B, D) of the newest events, of vectors (B, T, D) at every place."""
    if not tokens.item.shape[1]:
        return unseen.expand(len(tokens.count), -1)
    newest = at_places(vectors, (tokens.count - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where(tokens.count[:, None] > 0, newest, unseen)


def _race(contestants: dict[str, tuple[Encode, int]], values: Sequence[bytes]) -> dict[str, Result]:
    """Let the contestants encode all users in turn, and compare what they made with the first one's."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    expected = _all_vectors(*contestants["eager"], values)
    differences = {}
    for name, contestant in contestants.items():  # their first run, which is not timed
        differences[name] = float(np.abs(_all_vectors(*contestant, values) - expected).max())
        if not differences[name] <= TOLERANCE:
            raise TwintideError(
                f"{name} makes other vectors than eager: they differ by {differences[name]:.1e}, "
                f"{TOLERANCE} is allowed"
            )
    for _ in range(ROUNDS):
        for name, (encode, batch_users) in contestants.items():
            seconds[name].append(_seconds(encode, values, batch_users))
    return {
        name: {
            "users_per_second": len(values) / statistics.median(found),
            "seconds": statistics.median(found),
            "max_difference": differences[name],
        }
        for name, found in seconds.items()
    }


def _all_vectors(
    encode: Encode, batch_users: int, values: Sequence[bytes]
) -> "np.typing.NDArray[np.float32]":
    parts = [encode(batch) for batch in _batches(values, batch_users)]
    return np.concatenate([np.hstack([each.user, each.long, each.short]) for each in parts])  # (B, 3 D)


def _seconds(encode: Encode, values: Sequence[bytes], batch_users: int) -> float:
    started = time.perf_counter()
    for batch in _batches(values, batch_users):
        encode(batch)
    return time.perf_counter() - started


def _batches(values: Sequence[bytes], batch_users: int) -> Iterator[Sequence[bytes]]:
    return (values[begin : begin + batch_users] for begin in range(0, len(values), batch_users))


def _print(report: Report) -> None:
    rows = {
        name: {
            "users/s": result["users_per_second"],
            "us per user": 1e6 / result["users_per_second"],
            "largest difference": result["max_difference"],
        }
        for name, result in report.results.items()
    }
    print_table("encode: binary windows to vectors", rows, FORMATS)
    for name, ratio in report.ratios.items():
        click.echo(f"{name} {ratio:.1f}x")


if __name__ == "__main__":
    main(prog_name="./run bench encode")
