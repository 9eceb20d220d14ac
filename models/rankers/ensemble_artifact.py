"""Rankers that were saved -> one artifact of all of them, which is served as any; needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import safetensors.numpy

from models.artifact.files import CONFIG, METRICS, VOCABULARY, config_to_json, to_json
from models.artifact.writing import write_version
from models.location import Location
from models.model_files import ENSEMBLE, GOLDEN, MEMBER_FILES, RANKER, member_file
from models.rankers.ensemble import EnsembleRanker, EnsembleSettings
from models.rankers.golden import golden_questions
from models.rankers.load import LoadedRanker, load_ranker


def save_ensemble(
    store: Location,
    members: Sequence[LoadedRanker],
    settings: EnsembleSettings,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
) -> LoadedRanker:
    """Write rankers into `store` as one, and return it as it serves.

    They know the same items and categories by the same numbers. Raises ArtifactError.
    """
    asked = golden_questions(members[0].vocabulary)
    golden = EnsembleRanker([each.ranker for each in members], settings).rank(*asked).score
    config = {"encoder": RANKER, RANKER: asdict(settings.reads), ENSEMBLE: asdict(settings)}
    contents = {
        CONFIG: config_to_json({**config, "training": dict(training)}),
        VOCABULARY: members[0].vocabulary.to_bytes(),
        GOLDEN: safetensors.numpy.save({"score": golden}),
        METRICS: to_json(metrics),
    }
    for number, member in enumerate(members):
        for name in MEMBER_FILES:
            contents[member_file(number, name)] = (member.directory / name).read_bytes()
    return load_ranker(store / write_version(store, contents))
