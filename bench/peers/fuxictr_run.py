"""FuxiCTR as a peer: its environment, the samples that Twintide's rankers learn from as files, and a run."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.peers.environment import python_with
from local.servers import LOCAL
from models.ages import AGE_BUCKETS
from models.arrays import Doubles, Ints
from models.errors import TwintideError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import UNKNOWN
from models.rankers.settings import RankerSettings
from offline.rankers.measures import Quality, quality_of
from offline.rankers.questions import Drawer, Questions
from offline.rankers.samples import Asked, Samples
from offline.rankers.scoring import ask
from offline.rankers.settings import RankerTrainSettings

#: DeepCTR-Torch is there for `bench.ranker_parts`.
LIBRARIES = ["fuxictr==2.3.10", "deepctr-torch==0.3.0"]
SCRIPT = Path(__file__).with_name("fuxictr_models.py")
#: FuxiCTR's own learning rate, and the length of the vectors of behaviours and of ages.
LR, SMALL_DIMENSION = 1e-3, 8
WRITTEN_AT_ONCE = 4_096

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class PeerResult:
    """How good the best pass is on the test slice, which pass that was, and what it took."""

    test: Quality
    epochs: int
    seconds: float
    parameters: int


def peer_python(otherwise: str) -> Path:
    """Return the Python of their environment, over Twintide's own torch; see `python_with`."""
    return python_with(LIBRARIES, LOCAL / "bench-fuxictr", otherwise, over_ours=True)


def run_fuxictr(
    kind: str,
    vocabulary: Vocabulary,
    samples: dict[str, Samples],
    settings: RankerSettings,
    train: RankerTrainSettings,
) -> PeerResult:
    """Train FuxiCTR's model on the samples of the slices, choose as we do, and test. Raises TwintideError."""
    python = peer_python("leave it out with --only")
    drawer = Drawer(samples["train"], vocabulary, train)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "train.npz", **_learned(samples["train"], drawer, settings, train))  # type: ignore[arg-type]
        for held_out in ("validation", "test"):
            arrays = _asked(samples[held_out], drawer, settings, train)
            np.savez(folder / f"{held_out}.npz", **arrays)  # type: ignore[arg-type]
        job = _job(kind, folder, vocabulary, len(samples["train"]), settings, train)
        (folder / "job.json").write_text(json.dumps(job))
        command = [str(python), str(SCRIPT), str(folder / "job.json")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if done.returncode:
            raise TwintideError(f"FuxiCTR failed with {done.returncode}: {done.stderr.strip()[-300:]}")
        said, scores = json.loads(done.stdout.splitlines()[-1]), np.load(folder / "scores.npy")
    test = quality_of(ask(samples["test"], drawer, settings, train, _given(scores)))
    return PeerResult(test, said["epochs"], said["seconds"], said["parameters"])


def _job(
    kind: str,
    folder: Path,
    vocabulary: Vocabulary,
    samples: int,
    settings: RankerSettings,
    train: RankerTrainSettings,
) -> dict[str, Any]:
    return {
        **{"kind": kind, "folder": str(folder), "seed": train.seed, "lr": LR},
        **{"epochs": train.epochs, "patience": train.patience, "batch_size": train.batch_of(samples)},
        **{"unknown": UNKNOWN, "unknown_share": train.unknown_share},
        "sizes": [vocabulary.item_count, vocabulary.category_count, 5, AGE_BUCKETS],
        "dimensions": [
            settings.item_dimension,
            settings.category_dimension,
            SMALL_DIMENSION,
            SMALL_DIMENSION,
        ],
        **{"units": list(settings.units), "attention_units": settings.attention_units},
    }


def _learned(
    samples: Samples, drawer: Drawer, settings: RankerSettings, train: RankerTrainSettings
) -> Arrays:
    """Return the events of the samples, and their candidates in each pass."""
    own = drawer if train.negatives_from == "drawn" else None
    questions = Questions(samples, settings, own, train.negatives, 1.0, torch.device("cpu"))
    random, passes = np.random.default_rng(train.seed), []
    for _ in range(train.epochs if own else 1):
        passes.append(
            _together([questions.asked(some, random) for some in _portions(len(samples))], settings)
        )
    candidates = ("item", "category", "label", "weight")
    found = {name: np.stack([each[name] for each in passes]) for name in candidates}
    if not own:  # the same in each pass
        found = {name: np.broadcast_to(each, (train.epochs, *each.shape[1:])) for name, each in found.items()}
    return {name: each for name, each in passes[0].items() if name not in candidates} | found


def _asked(samples: Samples, drawer: Drawer, settings: RankerSettings, train: RankerTrainSettings) -> Arrays:
    """Return the events and candidates of held-out samples, as `ask` has them."""
    batches: list[Asked] = []

    def keep(asked: Asked) -> Doubles:
        batches.append(asked)
        return np.zeros(asked.item.shape)

    ask(samples, drawer, settings, train, keep)
    return _together(batches, settings)


def _given(scores: Doubles) -> Any:
    """Return what gives batches, in the order of `_asked`, their scores."""
    at = 0

    def give(asked: Asked) -> Doubles:
        nonlocal at
        at += len(asked.item)
        return scores[at - len(asked.item) : at]

    return give


def _together(batches: list[Asked], settings: RankerSettings) -> Arrays:
    """Return batches as arrays of all samples."""

    def wide(events: torch.Tensor) -> Ints:
        missing = settings.max_events - events.shape[1]
        return np.pad(events.numpy(), ((0, 0), (0, missing))).astype(np.int32)

    found = {
        f"event_{name}": np.concatenate([wide(getattr(each.events, name)) for each in batches])
        for name in ("item", "category", "behaviour", "age")
    }
    names = {"item": np.int32, "category": np.int32, "label": np.float32, "weight": np.float32}
    for name, kind in names.items():
        found[name] = np.concatenate([getattr(each, name).numpy().astype(kind) for each in batches])
    return found


def _portions(samples: int) -> Iterator[Ints]:
    for begin in range(0, samples, WRITTEN_AT_ONCE):
        yield np.arange(begin, min(begin + WRITTEN_AT_ONCE, samples))
