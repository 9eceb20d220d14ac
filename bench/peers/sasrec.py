"""RecTools' SASRec on a given split: run by the Python of RecTools' own environment, without Twintide.

    python sasrec.py JOB.json

The job names `train` (CSV: user, item, place in the user's history), `out`, `seed`, `epochs` and what else
SASRecModel takes under `model`. Into `out` go ten items per user, CSV: user, item, rank, exclude_seen. The
last line of stdout is JSON: `seconds` and `cpu_seconds` of training.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import pytorch_lightning
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main(job_file: str) -> None:
    """Train, recommend ten items to everyone with seen items left out and left in, and write them."""
    job = json.loads(Path(job_file).read_text())
    rows = pd.read_csv(job["train"], dtype={"user": str, "item": str})
    dataset = Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: rows["user"],
                Columns.Item: rows["item"],
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(rows["place"], unit="s"),  # keeps the order of ties
            }
        )
    )
    pytorch_lightning.seed_everything(job["seed"])
    model = SASRecModel(epochs=job["epochs"], deterministic=True, **job["model"])
    started, started_cpu = time.monotonic(), time.process_time()
    model.fit(dataset)
    took = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - started_cpu}
    users = rows["user"].unique()
    parts = []
    for exclude_seen in (True, False):
        found = model.recommend(users, dataset, k=10, filter_viewed=exclude_seen)
        parts.append(found.assign(exclude_seen=exclude_seen))
    found = pd.concat(parts).rename(
        columns={Columns.User: "user", Columns.Item: "item", Columns.Rank: "rank"}
    )
    found[["user", "item", "rank", "exclude_seen"]].to_csv(job["out"], index=False)
    print(json.dumps(took))


if __name__ == "__main__":
    main(sys.argv[1])
