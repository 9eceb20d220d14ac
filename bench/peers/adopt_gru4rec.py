"""torch-rechub's GRU4Rec, trained and exported for `offline.adopt`: run by its own Python, without Twintide.

    python adopt_gru4rec.py JOB.json

The job is that of adopt_sasrec.py, and so is what is written; `model` has `n_factors` and `session_max_len`.
torch-rechub wants a feature of the user beside the history: here all users have the same one.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import torch
from torch.utils.data import DataLoader, Dataset
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import GRU4Rec
from torch_rechub.trainers import MatchTrainer
from torch_rechub.utils.data import pad_sequences

NEGATIVES, BATCH = 20, 256


class Targets(Dataset[tuple[dict[str, torch.Tensor], int]]):
    """Every item of every user but the first, with the history before it and some items at random."""

    def __init__(self, histories: list[list[int]], items: int, width: int) -> None:
        self.targets = [(user, place) for user, each in enumerate(histories) for place in range(1, len(each))]
        self.histories, self.items, self.width = histories, items, width

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[dict[str, torch.Tensor], int]:
        user, place = self.targets[number]
        read = padded([self.histories[user][:place]], self.width)[0]
        negatives = torch.randint(1, self.items + 1, (NEGATIVES,))
        item = torch.tensor(self.histories[user][place])
        return {"anyone": torch.tensor(0), "history": read, "item": item, "negatives": negatives}, 0


class Encoder(torch.nn.Module):
    """The user tower of a trained GRU4Rec: item indices (B, T), left padded -> vectors (B, D)."""

    def __init__(self, model: GRU4Rec) -> None:
        super().__init__()
        self.model = model.eval()
        self.model.mode = "user"

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.model({"anyone": torch.zeros_like(item[:, 0]), "history": item})
        return vectors


def main(job_file: str) -> None:
    """Train, export, and write what torch-rechub itself makes of every user."""
    job = json.loads(Path(job_file).read_text())
    out, rows = Path(job["out"]), pd.read_csv(job["train"], dtype={"user": str, "item": str})
    torch.manual_seed(job["seed"])
    codes, ids = pd.factorize(rows["item"])
    by_user = pd.Series(codes + 1).groupby(rows["user"], sort=False).apply(list)
    width, size = job["model"]["session_max_len"], job["model"]["n_factors"]
    model = make(len(ids), size)
    targets = DataLoader(Targets(by_user.tolist(), len(ids), width), BATCH, shuffle=True)
    MatchTrainer(model, mode=2, n_epoch=job["epochs"], device="cpu", model_path=str(out)).fit(targets)
    with torch.no_grad():
        model.eval().mode = "item"
        vectors = model({"item": torch.arange(1, len(ids) + 1)}).numpy()
        encoder = Encoder(model).eval()
        export(encoder, out / "encoder.onnx")
        began = time.monotonic()
        own = torch.cat(
            [encoder(some) for some in torch.split(padded(by_user.tolist(), width), BATCH)]
        ).numpy()
        seconds = time.monotonic() - began
    table = {"item_id": ids, "vec": pa.array(list(vectors))}
    pyarrow.parquet.write_table(pa.table(table), out / "items.parquet")
    (out / "vocabulary.json").write_text(json.dumps({"items": {item: 1 + n for n, item in enumerate(ids)}}))
    np.savez(out / "own.npz", users=np.array(by_user.index, str), vectors=own)
    print(json.dumps({"seconds": seconds}))


def make(items: int, size: int) -> GRU4Rec:
    """Return an untrained model; index 0 is padding, whose embedding is 0."""
    known = {"vocab_size": items + 1, "embed_dim": size}
    return GRU4Rec(
        user_features=[SparseFeature("anyone", vocab_size=1, embed_dim=size)],
        history_features=[SequenceFeature("history", pooling="concat", shared_with="item", **known)],
        item_features=[SparseFeature("item", padding_idx=0, **known)],
        neg_item_feature=[SequenceFeature("negatives", pooling="concat", shared_with="item", **known)],
        user_params={"dims": [128, size], "activation": "prelu"},
        temperature=0.1,
    )


def padded(histories: list[list[int]], width: int) -> torch.Tensor:
    """Return their last `width` items, left padded, (B, width)."""
    return torch.from_numpy(pad_sequences(histories, maxlen=width)).long()


def export(encoder: Encoder, file: Path) -> None:
    """Write the encoder as ONNX."""
    torch.onnx.export(
        encoder,
        (torch.ones(2, 20, dtype=torch.int64),),
        file,
        input_names=["item"],
        output_names=["user"],
        dynamic_axes={"item": {0: "users", 1: "events"}, "user": {0: "users"}},
        dynamo=False,
    )


if __name__ == "__main__":
    main(sys.argv[1])
