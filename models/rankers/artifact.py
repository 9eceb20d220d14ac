"""A trained ranker as an artifact: weights, both graphs, golden scores; saved whole or not at all."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from models.arrays import Floats, Ints
from models.artifact.files import CONFIG, METRICS, VOCABULARY, config_to_json, to_json
from models.artifact.writing import write_version
from models.errors import SettingsError
from models.ids.vocabulary import Vocabulary
from models.location import Location
from models.model_files import GOLDEN, RANKER, WEIGHTS
from models.rankers.base import RankerModule
from models.rankers.columns import event_rows
from models.rankers.features import feature_rows
from models.rankers.golden import golden_questions
from models.rankers.graphs import graphs_of
from models.rankers.kinds import make_ranker
from models.rankers.layers import Events, Features
from models.rankers.load import LoadedRanker, load_ranker
from models.windows.histories import Histories


def save_ranker(
    store: Location,
    ranker: RankerModule,
    vocabulary: Vocabulary,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
) -> LoadedRanker:
    """Write a ranker into `store`, under its version, and return it as it serves.

    Raises ArtifactError where the graphs do not give what the ranker itself gives.
    """
    ranker = ranker.cpu().eval()
    config = {"encoder": RANKER, RANKER: asdict(ranker.settings), "training": dict(training)}
    contents = {
        CONFIG: config_to_json(config),
        VOCABULARY: vocabulary.to_bytes(),
        WEIGHTS: safetensors.torch.save(ranker.state_dict()),
        **graphs_of(ranker),
        GOLDEN: safetensors.numpy.save({"score": golden_scores(ranker, vocabulary)}),
        METRICS: to_json(metrics),
    }
    return load_ranker(store / write_version(store, contents))


def module_of(loaded: LoadedRanker) -> RankerModule:
    """Return a ranker as it was saved. Raises SettingsError for an ensemble, which is several."""
    file = loaded.directory / WEIGHTS
    if not file.exists():
        raise SettingsError(f"ranker {loaded.version} is an ensemble: name one that it is made of")
    ranker, weights = make_ranker(loaded.vocabulary, loaded.settings), safetensors.torch.load_file(file)
    if ranker.vectors.are_bytes(weights):
        ranker.vectors.compress()
    ranker.load_state_dict(weights)
    return ranker


def golden_scores(ranker: RankerModule, vocabulary: Vocabulary) -> Floats:
    """Return what a ranker gives the candidates (C,) of golden users, as torch computes it."""
    histories, candidates, now_ms = golden_questions(vocabulary)
    shape = (len(histories), -1)
    item, category = candidates.item.reshape(shape), candidates.category.reshape(shape)
    return np.ascontiguousarray(scores_of(ranker, histories, now_ms, item, category).reshape(-1))


def scores_of(ranker: RankerModule, histories: Histories, now_ms: Ints, item: Ints, category: Ints) -> Floats:
    """Return the scores (B, C) of candidates (B, C) of B users at now_ms (B,), as torch computes them."""
    rows = event_rows(histories, now_ms, ranker.settings)
    events = Events(*map(torch.from_numpy, rows.columns().values()))
    features = None
    if ranker.settings.features:
        numbers = feature_rows(histories, now_ms, item, category, ranker.settings)
        features = Features(*map(torch.from_numpy, numbers.columns().values()))
    with torch.inference_mode():
        found: Floats = ranker(events, torch.from_numpy(item), torch.from_numpy(category), features).numpy()
    return found
