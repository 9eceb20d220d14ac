"""Encoder, items and vocabulary -> a published artifact, or a reason why not and nothing published."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.adopted.onnx_model import OnnxModel
from models.adopted.settings import EncoderSettings
from models.artifact.artifact import Artifact, load, publish, save_model
from models.artifact.settings import ArtifactSettings
from models.errors import SettingsError
from models.location import Location
from models.towers.histories import FeatureSettings
from models.windows.window import WindowSettings
from offline.adopting.behaviour import Trial
from offline.adopting.items import read_items
from offline.adopting.ports import check_ports
from offline.adopting.vocabulary import read_vocabulary, vocabulary_of


@dataclass(frozen=True, slots=True)
class Given:
    """The three files of a model that others trained."""

    encoder: Path
    items: Path
    vocabulary: Path


def adopt(
    given: Given,
    store: Location,
    encoder: EncoderSettings,
    window: WindowSettings,
    training: Mapping[str, Any],
) -> Artifact:
    """Check a model, publish it in `store`, and return its artifact.

    encoder: what the graph itself fixes (its width) may be left open. Raises ArtifactError, DataError or
    SettingsError, one line each; then nothing is written.
    """
    categories, vectors = read_items(given.items)
    library = read_vocabulary(given.vocabulary)
    vocabulary = vocabulary_of(categories, library, f"{given.items} and {given.vocabulary}")
    indices = library.indices(vocabulary)
    session = OnnxModel(given.encoder, encoder, indices, vectors).session()
    width = check_ports(given.encoder, session, vectors.shape[1], bool(library.categories))
    settings = _of_width(encoder, width)
    Trial(given.encoder, session, settings, indices, vectors.shape[1]).check()
    model = OnnxModel(given.encoder, settings, indices, vectors)
    of_artifact = ArtifactSettings(window=window, features=FeatureSettings(gap_ms=encoder.gap_ms))
    saved = save_model(store, model, vocabulary, of_artifact, {}, training)
    saved.check_golden()
    publish(store, saved.version)
    return load(store)


def _of_width(settings: EncoderSettings, fixed: int) -> EncoderSettings:
    """Return the settings with the width that the graph fixes, if any. Raises SettingsError."""
    if fixed and settings.width not in (0, fixed):
        raise SettingsError(f"--width is {settings.width}, and the encoder's rows have {fixed} places")
    width = fixed or settings.width
    return replace(settings, width=width, max_events=min(settings.max_events, width or settings.max_events))
