"""FuxiCTR's DIN and DIEN on given samples: run by FuxiCTR's own Python, without Twintide.

    python fuxictr_models.py JOB.json

The job names `folder`, `kind`, `seed`, `epochs`, `patience`, `batch_size`, `lr`, `unknown`,
`unknown_share`, `sizes` (rows of each table), `dimensions` (lengths of its vectors), `units` and
`attention_units`. In the folder are train.npz, validation.npz and test.npz: events item, category,
behaviour, age (S, T), filled from the first place on, and candidates item, category, label, weight (S, C),
of train (E, S, C), one for each pass. Into it go the log-odds of the test's candidates, scores.npy (S, C).
The last line of stdout is JSON: `epochs`, `seconds`, `parameters`.
"""

import copy
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from model_zoo.LongCTR.DIEN.DIEN import DIEN
from model_zoo.LongCTR.DIN.DIN import DIN
from sklearn.metrics import roc_auc_score
from torch import Tensor

#: What is a feature of an item of the history; a candidate has neither behaviour nor age.
COLUMNS = ("item", "category", "behaviour", "age")
LONGEST_GRADIENT = 10.0
SCORED_AT_ONCE = 64

Arrays = Mapping[str, Tensor]


def make_model(job: Mapping[str, Any]) -> Any:
    """Return the untrained model, of the sizes of Twintide's."""
    features = FeatureMap("log", job["folder"])
    features.features = OrderedDict(
        (
            name,
            {
                "type": "categorical",
                "source": "item",
                "vocab_size": size,
                "embedding_dim": length,
                "padding_idx": 0,
            },
        )
        for name, size, length in zip(COLUMNS, job["sizes"], job["dimensions"], strict=True)
    )
    features.labels, features.num_fields = ["label"], len(COLUMNS)
    common = {
        "task": "binary_classification",
        "loss": "binary_crossentropy",
        "optimizer": "adam",
        "verbose": 0,
    }
    common |= {"metrics": ["AUC"], "model_root": job["folder"], "learning_rate": job["lr"]}
    common |= {"dnn_hidden_units": job["units"], "dnn_activations": "Dice"}
    torch.manual_seed(job["seed"])
    if job["kind"] == "din":
        return DIN(features, attention_hidden_units=[job["attention_units"]], **common)
    return DIEN(features, batch_norm=False, **common)


def read(file: Path) -> dict[str, Tensor]:
    """Return the arrays of a file."""
    return {name: torch.from_numpy(value) for name, value in np.load(file).items()}


def scores(model: Any, events: Tensor, item: Tensor, category: Tensor) -> Tensor:
    """Return the probabilities (B, C) of candidates (B, C) after events (4, B, T).

    Two users of one event are added and left out again: DIEN fails where fewer than two have any.
    """
    users, candidates = item.shape
    nothing = torch.zeros_like(item)
    asked = torch.stack([item, category, nothing, nothing])  # (4, B, C)
    past = events.unsqueeze(2).expand(-1, -1, candidates, -1)  # (4, B, C, T)
    rows = torch.cat([past, asked.unsqueeze(-1)], dim=-1).flatten(1, 2)  # (4, B C, T + 1)
    filler = torch.zeros_like(rows[:, :2])
    filler[:, :, 0] = filler[:, :, -1] = 1
    rows = torch.cat([rows, filler], dim=1)
    mask = (rows[0, :, :-1] > 0).float()
    found = model(({}, dict(zip(COLUMNS, rows, strict=True)), mask))["y_pred"]
    return found[:-2].reshape(users, candidates)  # type: ignore[no-any-return]


def columns(arrays: Arrays, some: Tensor) -> Tensor:
    """Return the events (4, B, T) of samples, as many places as the longest needs."""
    found = torch.stack([arrays[f"event_{name}"][some] for name in COLUMNS]).long()
    longest = max(int((found[0] > 0).sum(dim=1).max()), 1)
    return found[:, :, :longest]


def hidden(items: Tensor, job: Mapping[str, Any]) -> Tensor:
    """Return items with a share of them made unknown, as Twintide's learner does."""
    is_hidden = (torch.rand(items.shape) < job["unknown_share"]) & (items > 0)
    return torch.where(is_hidden, job["unknown"], items)


def learn(model: Any, train: Arrays, epoch: int, job: Mapping[str, Any]) -> None:
    """Learn from every sample once."""
    model.train()
    for some in torch.split(torch.randperm(len(train["event_item"])), job["batch_size"]):
        events = columns(train, some)
        events[0] = hidden(events[0], job)
        item, category, label, weight = (
            train[name][epoch, some] for name in ("item", "category", "label", "weight")
        )
        found = scores(model, events, hidden(item.long(), job), category.long())
        counts = weight > 0
        loss = model.loss_fn(found[counts], label[counts], reduction="mean")
        model.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LONGEST_GRADIENT)
        model.optimizer.step()


def score_all(model: Any, arrays: Arrays) -> np.ndarray:
    """Return the probabilities (S, C) of all candidates."""
    model.eval()
    with torch.inference_mode():
        found = [
            scores(model, columns(arrays, some), arrays["item"][some].long(), arrays["category"][some].long())
            for some in torch.split(torch.arange(len(arrays["item"])), SCORED_AT_ONCE)
        ]
    whole: np.ndarray = torch.cat(found).double().numpy()
    return whole


def main(job_file: str) -> None:
    """Learn while that makes the validation AUC better, and score the test by the best pass."""
    torch.set_num_threads(1)
    job = json.loads(Path(job_file).read_text())
    folder, model = Path(job["folder"]), make_model(job)
    best: tuple[float, int, dict[str, Tensor]] = 0.0, 0, {}
    train, validation, test = (read(folder / f"{name}.npz") for name in ("train", "validation", "test"))
    counts = (validation["weight"] > 0).numpy()
    began = time.monotonic()
    for epoch in range(job["epochs"]):
        learn(model, train, epoch, job)
        auc = roc_auc_score(validation["label"].numpy()[counts], score_all(model, validation)[counts])
        if auc > best[0]:
            best = auc, epoch + 1, copy.deepcopy(model.state_dict())
        elif epoch + 1 - best[1] >= job["patience"]:
            break
    model.load_state_dict(best[2])
    seconds, found = time.monotonic() - began, score_all(model, test).clip(1e-7, 1 - 1e-7)
    np.save(folder / "scores.npy", np.log(found / (1 - found)))
    parameters = sum(each.numel() for each in model.parameters())
    print(json.dumps({"epochs": best[1], "seconds": seconds, "parameters": parameters}))


if __name__ == "__main__":
    main(sys.argv[1])
