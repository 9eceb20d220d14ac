"""Models of other libraries, each trained and exported by its own Python, for `offline.adopt`."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.peers.environment import python_with
from bench.peers.sasrec_run import RECTOOLS, write_histories
from local.servers import LOCAL
from models.arrays import Floats
from models.errors import TwintideError
from models.log.behaviour_log import BehaviourLog
from offline.adopting.run import Given

RECHUB = ["torch-rechub==0.9.0"]
#: What exports to ONNX and writes Parquet, beside the library.
EXPORT = ["onnx", "onnxscript"]
#: How long vectors are, and how many of a user's last events are read.
MODEL = {"n_factors": 64, "session_max_len": 50}


@dataclass(frozen=True, slots=True)
class Library:
    """A library, what trains its model (a file of bench/peers), and how rows are filled up."""

    name: str
    script: str
    requirements: tuple[str, ...]
    padding: str = "left"


@dataclass(frozen=True, slots=True)
class Trained:
    """A model: its files, and what its library makes of every user (U, D), in so many seconds."""

    given: Given
    user_ids: list[str]
    vectors: Floats
    seconds: float


LIBRARIES = (
    Library("SASRec (RecTools)", "adopt_sasrec.py", (*RECTOOLS, *EXPORT, "pyarrow<22")),
    Library(
        "GRU4Rec (torch-rechub)", "adopt_gru4rec.py", ("torch-rechub==0.9.0", *EXPORT, "pyarrow", "pandas")
    ),
)


def train(library: Library, log: BehaviourLog, folder: Path, epochs: int) -> Trained:
    """Train a library's model on a log, in an environment of its own. TwintideError where it fails."""
    directory = LOCAL / f"bench-{library.script.removesuffix('.py').replace('_', '-')}"
    python = python_with(list(library.requirements), directory, "leave it out with --only")
    folder.mkdir(parents=True)
    write_histories(log, folder / "train.csv")
    job = {
        "seed": 0,
        "epochs": epochs,
        "model": MODEL,
        "out": str(folder),
        "train": str(folder / "train.csv"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name(library.script)
    done = subprocess.run(
        [str(python), str(script), str(folder / "job.json")], capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        raise TwintideError(f"{library.name} failed with {done.returncode}: {done.stderr.strip()[-300:]}")
    own = np.load(folder / "own.npz")
    files = (folder / name for name in ("encoder.onnx", "items.parquet", "vocabulary.json"))
    seconds = float(json.loads(done.stdout.splitlines()[-1])["seconds"])
    return Trained(Given(*files), own["users"].tolist(), own["vectors"], seconds)
