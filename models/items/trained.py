"""What a learner of items takes from a model, as plain arrays: where it starts, and how items make users."""

from typing import NamedTuple

import torch

from models.arrays import Floats
from models.artifact.artifact import Artifact
from models.errors import ArtifactError
from models.ids.vocabulary_file import FIRST_KNOWN
from models.items.starts import Starts, array_of, starts_of
from models.towers.dual_towers import DualTowers


class Trained(NamedTuple):
    """A model's items and its direct path (docs/model.md), in the space before any rotation.

    inputs, outputs (I, D) of the known items; starts: those of new ones. The last coordinate of outputs is 0:
    live counts take the place of the popularity there.

    A user's vector is scale (m short + (1 - m) long) + everyone, its last coordinate 0, with m = sigmoid(gate
    . [short; long] + gate_shift), and short = the sum of by_place (K, 2) * by_behaviour (5,) * input over the
    last K events, by whether they are of the newest's session, times `again` where the item comes again. long
    is without_long (D,) while the long tower has nothing to read, else 0; gap_ms ends a session; is_ratio:
    the short tower reads the last tenth, not K events; cold_start (D,) is the vector of a user without
    events.
    """

    inputs: Floats
    outputs: Floats
    starts: Starts
    by_place: Floats
    by_behaviour: Floats
    again: float
    gate: Floats
    gate_shift: float
    without_long: Floats
    everyone: Floats
    cold_start: Floats
    scale: float
    gap_ms: int
    is_ratio: bool


def trained_of(artifact: Artifact, own: float = 0.0) -> Trained:
    """Return them; own: see LiveItemsSettings.

    Raises ArtifactError where the model scores by cosine: its items cannot go on learning.
    """
    settings = artifact.settings
    if settings.model.score != "dot":
        raise ArtifactError(
            f"{artifact.path} scores by {settings.model.score}: its items cannot go on learning; train one "
            f'with score = "dot"'
        )
    towers = artifact.towers
    with torch.inference_mode():
        inputs, outputs = _items(towers, artifact)
        everyone = _without_last(towers.everyone[None])[0]
        cold_start = _cold_start(towers)
        return Trained(
            *(inputs, outputs),
            starts=starts_of(towers, own),
            by_place=array_of(towers.direct.place),
            by_behaviour=array_of(towers.direct.behaviour.exp()),
            again=float(towers.direct.again),
            gate=array_of(towers.gate.weight[0]),
            gate_shift=float(towers.gate.bias),
            without_long=array_of(towers.unseen_long),
            everyone=everyone,
            cold_start=cold_start,
            scale=float(towers.temperature.exp()),
            gap_ms=settings.gap_ms,
            is_ratio=settings.features.split == "ratio",
        )


def _items(towers: DualTowers, artifact: Artifact) -> tuple[Floats, Floats]:
    known = torch.arange(FIRST_KNOWN, artifact.vocabulary.item_count)
    inputs = towers.items(known, towers.items.item_categories[known])
    return array_of(inputs), _without_last(towers.items.outputs(known))


def _cold_start(towers: DualTowers) -> Floats:
    short, long = towers.unseen_short, towers.unseen_long
    share = torch.sigmoid(towers.gate(torch.cat([short, long])))
    mixed = share * short + (1 - share) * long
    found: Floats = _without_last((mixed * towers.temperature.exp() + towers.everyone)[None])[0]
    return found


def _without_last(vectors: torch.Tensor) -> Floats:
    """Return vectors (., D) with 0 for their last coordinate."""
    found = array_of(vectors)
    found[:, -1] = 0
    return found
