"""A ranker as two ONNX graphs: what is known of a user without candidates, and the candidates."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.model_files import CANDIDATE_GRAPH, USER_GRAPH
from models.rankers.base import RankerModule
from models.rankers.features import CANDIDATE_FEATURES, USER_FEATURES
from models.rankers.layers import Events, Features

#: The columns that a user's graph reads.
COLUMNS = ("item", "category", "behaviour", "age")
CANDIDATES = ("candidate_item", "candidate_category")
#: What a graph of candidates reads behind them where a ranker has features.
FEATURES = ("user_features", "candidate_features")
#: How many users, events and candidates there are while a graph is drawn; any number runs through it.
_USERS, _CANDIDATES = 2, 3


class _OfUser(nn.Module):
    def __init__(self, ranker: RankerModule) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, item: Tensor, category: Tensor, behaviour: Tensor, age: Tensor) -> tuple[Tensor, ...]:
        return self.ranker.of_user(Events(item, category, behaviour, age))


class _OfCandidates(nn.Module):
    def __init__(self, ranker: RankerModule) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self.ranker.state)
        item, category, *features = inputs[count:]
        read = Features(*features) if features else None
        return self.ranker.of_candidates(inputs[:count], item, category, read)


def graphs_of(ranker: RankerModule) -> Mapping[str, bytes]:
    """Return both graphs by the names of their files; the ranker is not training."""
    events = Events(*(torch.ones(_USERS, ranker.settings.max_events, dtype=torch.int64) for _ in COLUMNS))
    candidates = tuple(torch.ones(_USERS, _CANDIDATES, dtype=torch.int64) for _ in CANDIDATES)
    names = [name for name, _ in ranker.state]
    features: tuple[Tensor, ...] = ()
    if ranker.settings.features:
        of_candidates = torch.zeros(_USERS, _CANDIDATES, len(CANDIDATE_FEATURES))
        features = torch.zeros(_USERS, len(USER_FEATURES)), of_candidates
    axes = {name: {0: "users"} | ({axis: "events"} if axis else {}) for name, axis in ranker.state}
    axes |= {name: {0: "users", 1: "events"} for name in COLUMNS}
    axes |= {name: {0: "users", 1: "candidates"} for name in (*CANDIDATES, "score")}
    axes |= {"user_features": {0: "users"}, "candidate_features": {0: "users", 1: "candidates"}}
    axes["attention"] = {0: "users", 1: "candidates", 2: "events"}
    with torch.no_grad():
        state = ranker.of_user(events)
    user = _exported(_OfUser(ranker), tuple(events), COLUMNS, names, axes)
    read = (*names, *CANDIDATES, *FEATURES[: len(features)])
    inputs = (*state, *candidates, *features)
    found = _exported(_OfCandidates(ranker), inputs, read, ("score", "attention"), axes)
    return {USER_GRAPH: user, CANDIDATE_GRAPH: found}


def _exported(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """Return a module as ONNX, by the exporter that needs nothing but onnx."""
    content: Any = io.BytesIO()  # which the annotation of `export` does not know
    named = {name: axes[name] for name in (*input_names, *output_names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is the older of two exporters; the other needs onnxscript
        torch.onnx.export(
            module.eval(),
            inputs,
            content,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes=named,
            dynamo=False,
            opset_version=17,
        )
    whole: bytes = content.getvalue()
    return whole
