"""RecTools' SASRec, trained and exported for `offline.adopt`: run by RecTools' own Python, without Twintide.

    python adopt_sasrec.py JOB.json

The job names `train` (CSV: user, item, place in the user's history), `out` (a folder), `epochs`, `seed`, and
what else SASRecModel takes under `model`. Into the folder go encoder.onnx, items.parquet, vocabulary.json,
and own.npz: the vectors that RecTools itself makes of every user, and their ids. The last line of stdout is
JSON: `seconds` of RecTools' own encoding of all users.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytorch_lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Encoder(torch.nn.Module):
    """The network of a trained SASRec: item indices (B, T) -> the vectors of the newest places (B, D)."""

    items: torch.Tensor

    def __init__(self, model: SASRecModel) -> None:
        super().__init__()
        self.net = model.lightning_model.torch_model.eval()
        self.register_buffer("items", self.net.item_model.get_all_embeddings().detach())

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        newest: torch.Tensor = self.net.encode_sessions({"x": item}, self.items)[:, -1]
        return newest


def main(job_file: str) -> None:
    """Train, export, and write what RecTools itself makes of every user."""
    job = json.loads(Path(job_file).read_text())
    out, rows = Path(job["out"]), pd.read_csv(job["train"], dtype={"user": str, "item": str})
    dataset = Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: rows["user"],
                Columns.Item: rows["item"],
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(rows["place"], unit="s"),
            }
        )
    )
    pytorch_lightning.seed_everything(job["seed"])
    model = SASRecModel(epochs=job["epochs"], deterministic=True, **job["model"])
    model.fit(dataset)
    encoder, ids = Encoder(model).eval(), model.data_preparator.item_id_map.external_ids
    example = torch.ones(2, job["model"]["session_max_len"], dtype=torch.int64)
    torch.onnx.export(
        encoder,
        (example,),
        out / "encoder.onnx",
        input_names=["item"],
        output_names=["user"],
        dynamic_shapes=({0: torch.export.Dim("users")},),
        dynamo=True,
    )
    known = [place for place, item in enumerate(ids) if item != "PAD"]
    vectors = encoder.items.numpy()[known]
    table = {"item_id": [ids[place] for place in known], "vec": pa.array(list(vectors))}
    pyarrow.parquet.write_table(pa.table(table), out / "items.parquet")
    (out / "vocabulary.json").write_text(json.dumps({"items": {ids[place]: place for place in known}}))
    users = rows["user"].unique()
    began = time.monotonic()
    own = own_vectors(model, users, dataset)
    seconds = time.monotonic() - began
    np.savez(out / "own.npz", users=users.astype(str), vectors=own)
    print(json.dumps({"seconds": seconds}))


def own_vectors(model: SASRecModel, users: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return what RecTools' own recommend path encodes (U, D)."""
    preparator = model.data_preparator
    of_users = preparator.transform_dataset_u2i(dataset, users)
    loader = preparator.get_dataloader_recommend(of_users, model.recommend_batch_size)
    found, _ = model.lightning_model._get_user_item_embeddings(loader, None)
    found = found.cpu().numpy()
    order = of_users.user_id_map.convert_to_internal(users)
    ordered: np.ndarray = found[order]
    return ordered


if __name__ == "__main__":
    main(sys.argv[1])
