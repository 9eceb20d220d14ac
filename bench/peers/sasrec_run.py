"""RecTools' SASRec as a peer: its environment, the histories it learns from, and a run of it."""

import csv
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.peers.environment import python_with
from local.servers import LOCAL
from models.errors import TwintideError
from models.log.behaviour_log import BehaviourLog

NAME = "SASRec (RecTools)"
RECTOOLS = ["rectools[torch]==0.19.0"]
PEER = Path(__file__).with_name("sasrec.py")
#: How many of a user's last events SASRec learns; else its settings are RecTools' own but for the length of
#: the vectors, which is ours.
SESSION_MAX_LEN = 100
SASREC = {"n_factors": 128, "session_max_len": SESSION_MAX_LEN, "loss": "softmax"}


def run_sasrec(
    log: BehaviourLog, folder: Path, seed: int, epochs: int, model: Mapping[str, Any] = SASREC
) -> dict[str, Any]:
    """Train SASRec on a log, and return what it says of it; recommendations are in `out.csv` of the folder.

    TwintideError where it fails.
    """
    python = python_with(RECTOOLS, LOCAL / "bench-rectools", "give --sasrec-epochs 0")
    job = {"seed": seed, "epochs": epochs, "model": {**model}}
    job |= {name: str(folder / f"{name}.csv") for name in ("train", "out")}
    write_histories(log, folder / "train.csv")
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [str(python), str(PEER), str(folder / "job.json")], capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        raise TwintideError(f"SASRec failed with {done.returncode}: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_histories(log: BehaviourLog, path: Path) -> None:
    """Write who had which item, in the order of each user's history."""
    ordered = log.select(log.by_user())
    rows = zip(ordered.user.strings(), ordered.item.strings(), range(len(ordered)), strict=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "place"])
        writer.writerows(rows)
