"""`./run bench encode`: users per second from binary windows to vectors, beside a naive PyTorch loop."""

import copy
import math
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
from bench.harness.operations import operations_per_user, peak_operations
from bench.harness.report import Report, Result, print_table
from bench.peers.eager import EagerTowers
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.command import Command, log_to_stderr
from models.encoder import UserEncoder, Vectors
from models.errors import SettingsError, TwintideError
from models.ids.hashes import hashes_of
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.texts import texts_of
from models.inference.cuda_graphs import GraphedTowers
from models.inference.inference import PASS_USERS, Inference
from models.items.trained import trained_of
from models.threads import limit_threads
from models.windows.histories import histories_of_windows
from models.windows.live_inputs import LiveInputs, make_live_inputs
from models.windows.window import WindowSettings, window_to_bytes

#: Vectors that differ by more are not the same: in float32, in bfloat16, and of items that are bytes.
FLOAT32_TOLERANCE, BFLOAT16_TOLERANCE, LIVE_TOLERANCE = 1e-4, 0.1, 0.1
EVENTS_PER_USER = 60
#: Users encoded at once: by Twintide as its worker does, by the naive loop whatever suits it best.
BATCH_USERS, EAGER_BATCHES = 256, (16, 64, 256)
#: The same where a GPU encodes.
GPU_BATCH_USERS, GPU_EAGER_BATCHES = PASS_USERS, (256, 1_024, 4_096)
SMOKE_USERS = 300
ROUNDS = 3
#: Users whose floating-point operations are counted.
OPERATIONS_USERS = 200

REPORT_COLUMNS = {
    "users/s": ",.0f",
    "us per user": ",.1f",
    "largest difference": ".1e",
    "of the GPU's peak": ".2%",
}

#: What makes vectors of some windows' binary values.
Encode = Callable[[Sequence[bytes]], Vectors]


@dataclass(frozen=True, slots=True)
class TimedEncoder:
    """What encodes, how many users at once, and by how much its vectors may differ from the eager ones."""

    encode: Encode
    batch_users: int
    tolerance: float = FLOAT32_TOLERANCE
    #: Users a second if its GPU computed their towers as fast as it multiplies matrices; 0 without a GPU.
    peak: float = 0.0


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
    benchmark fails.

    twintide-live is Twintide with live inputs of every item: as trained, but as bytes, so that its vectors
    differ a little.

    Where there is a GPU, eager-cuda is the naive loop with the towers on it, and cuda and cuda-bfloat16 are
    Twintide's (batches of 1,024 users). What the towers compute for a user, padding left out, is also given
    as a share of what the GPU computes in the same time when it multiplies matrices of 8,192 x 8,192.

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
    limit_threads(threads)
    log = make_log(users * EVENTS_PER_USER, users)
    windows = expected_windows(log, WindowSettings())
    values = [window_to_bytes(window) for window in windows.values()]
    values = [values[place] for place in np.random.default_rng(0).permutation(len(values))]
    with tempfile.TemporaryDirectory() as store:
        publish_untrained(Path(store), vocabulary_of_log(log))
        artifact = artifacts.load(Path(store))
        contestants = {
            "eager": TimedEncoder(*_best(EagerTowers(artifact, artifact.towers), EAGER_BATCHES, values)),
            "twintide": TimedEncoder(Ours(artifact, artifact.encoder), BATCH_USERS),
            "twintide-live": TimedEncoder(
                Ours(artifact, artifact.encoder, _live_inputs(artifact)), BATCH_USERS, LIVE_TOLERANCE
            ),
        }
        if torch.cuda.is_available():
            contestants |= _on_gpu(artifact, values)
        results = _race(contestants, values)
    lengths = [len(window) for window in windows.values()]
    settings = {
        "users": len(values),
        "events_per_user": statistics.mean(lengths),
        "full_windows": sum(length == max(lengths) for length in lengths),
        "threads": threads,
        "batch_users": {name: each.batch_users for name, each in contestants.items()},
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }
    report = Report(settings, results)
    for ours in ("twintide", "cuda", "cuda-bfloat16"):
        report.compare(ours, ("eager", "eager-cuda"), "users_per_second")
    report.compare("twintide-live", ("twintide",), "users_per_second")
    return report


@dataclass(frozen=True, slots=True)
class Ours:
    """Twintide's encoder."""

    artifact: Artifact
    encoder: UserEncoder
    live: LiveInputs | None = None

    def __call__(self, values: Sequence[bytes]) -> Vectors:
        return self.encoder.encode(histories_of_windows(values, self.artifact.vocabulary, self.live))


def _live_inputs(artifact: Artifact) -> LiveInputs:
    """Return live inputs of every item, of vectors as they were trained."""
    hashes = hashes_of(texts_of(artifact.item_ids))
    return make_live_inputs("", hashes, trained_of(artifact).inputs, artifact.settings.features.short_events)


def _best(encode: Encode, batch_sizes: Sequence[int], values: Sequence[bytes]) -> tuple[Encode, int]:
    """Return what encodes, and the batch size with which it is the fastest."""
    some = values[: 2 * max(batch_sizes)]
    return encode, min(batch_sizes, key=lambda size: _seconds(TimedEncoder(encode, size), some))


def _on_gpu(artifact: Artifact, values: Sequence[bytes]) -> dict[str, TimedEncoder]:
    """Return the contestants whose towers are on the GPU."""
    operations = operations_per_user(artifact, values[:OPERATIONS_USERS])
    peak, rough_peak = (peak_operations(dtype) / operations for dtype in (torch.float32, torch.bfloat16))
    naive = EagerTowers(artifact, copy.deepcopy(artifact.towers).cuda())
    naive(values[:GPU_BATCH_USERS])  # libraries prepare themselves
    ours, rough = (
        Ours(artifact, Inference(artifact.towers.weights(), artifact.settings.features, path))
        for path in (GraphedTowers(artifact.towers), GraphedTowers(artifact.towers, bfloat16=True))
    )
    return {
        "eager-cuda": TimedEncoder(*_best(naive, GPU_EAGER_BATCHES, values), peak=peak),
        "cuda": TimedEncoder(ours, GPU_BATCH_USERS, peak=peak),
        "cuda-bfloat16": TimedEncoder(rough, GPU_BATCH_USERS, BFLOAT16_TOLERANCE, rough_peak),
    }


def _race(contestants: dict[str, TimedEncoder], values: Sequence[bytes]) -> dict[str, Result]:
    """Let the contestants encode all users in turn, and compare what they made with the first one's."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    expected = _all_vectors(contestants["eager"], values)
    differences = {}
    for name, contestant in contestants.items():  # their first run, which is not timed
        differences[name] = float(np.abs(_all_vectors(contestant, values) - expected).max())
        if not differences[name] <= contestant.tolerance:
            raise TwintideError(
                f"{name} makes other vectors than eager: they differ by {differences[name]:.1e}, "
                f"{contestant.tolerance} is allowed"
            )
    for _ in range(ROUNDS):
        for name, contestant in contestants.items():
            seconds[name].append(_seconds(contestant, values))
    results: dict[str, Result] = {}
    for name, found in seconds.items():
        users_per_second = len(values) / statistics.median(found)
        results[name] = {
            "users_per_second": users_per_second,
            "seconds": statistics.median(found),
            "max_difference": differences[name],
        }
        if peak := contestants[name].peak:
            results[name]["share_of_peak"] = users_per_second / peak
    return results


def _all_vectors(contestant: TimedEncoder, values: Sequence[bytes]) -> "np.typing.NDArray[np.float32]":
    parts = [contestant.encode(batch) for batch in _batches(values, contestant.batch_users)]
    return np.concatenate([np.hstack([each.user, each.long, each.short]) for each in parts])  # (B, 3 D)


def _seconds(contestant: TimedEncoder, values: Sequence[bytes]) -> float:
    started = time.perf_counter()
    for batch in _batches(values, contestant.batch_users):
        contestant.encode(batch)
    return time.perf_counter() - started


def _batches(values: Sequence[bytes], batch_users: int) -> Iterator[Sequence[bytes]]:
    return (values[begin : begin + batch_users] for begin in range(0, len(values), batch_users))


def _print(report: Report) -> None:
    rows = {
        name: {
            "users/s": result["users_per_second"],
            "us per user": 1e6 / result["users_per_second"],
            "largest difference": result["max_difference"],
            "of the GPU's peak": result.get("share_of_peak", math.nan),
        }
        for name, result in report.results.items()
    }
    print_table("encode: binary windows to vectors", rows, REPORT_COLUMNS)
    for name, ratio in report.ratios.items():
        click.echo(f"{name} {ratio:.1f}x")


if __name__ == "__main__":
    main(prog_name="./run bench encode")
