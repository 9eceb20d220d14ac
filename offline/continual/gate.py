"""The gate: a model is published only if it ranks rows that nobody has learned no worse than what serves."""

from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Flags, Ints
from models.artifact.golden_users import check_golden, golden_histories
from models.errors import ArtifactError
from models.ids.vocabulary_file import FIRST_KNOWN
from models.inference.tower_model import TowerModel
from models.log.behaviour_log import BehaviourLog
from offline.training.continuing import Learned
from offline.training.held_out import MAX_RANKED_TARGETS, target_ranks
from offline.training.parallel import Processes
from offline.training.pieces import material_of

#: How many standard errors of the paired difference a model may rank worse, and which share at most.
ERRORS, MAX_LOSS = 2.0, 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """NDCG (without a cut-off) of what serves and of what is new, on the same targets; why it is refused.

    error is the standard error of their difference, users being independent of each other, and not their
    events. `reason` is empty where the new model is accepted.
    """

    targets: int
    before: float
    after: float
    error: float
    tolerance: float
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether the new model may serve."""
        return not self.reason

    def __str__(self) -> str:
        return (
            f"ndcg {self.before:.4f} -> {self.after:.4f} on {self.targets:,} targets "
            f"(may fall by {self.tolerance:.4f})"
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """The targets (N,) that both models are asked for: their places among the events, and their users."""

    event: Ints
    user: Ints


def judge(
    before: Learned, after: Learned, log: BehaviourLog, held_back: Flags, max_items: int, processes: Processes
) -> Verdict:
    """Return what the rows held back (R,) of a log say of a new model beside the one before.

    Both read the same fresh histories. An item that a model does not know is a miss of it.
    """
    reason = defect_of(after) or lost_items(before, after, max_items)
    asked = _asked(before, log, held_back)
    if reason or not len(asked.event):
        return Verdict(len(asked.event), 0.0, 0.0, 0.0, 0.0, reason or "no row held back can be ranked")
    ours, theirs = (_gains(each, log, asked, processes) for each in (after, before))
    return verdict_of(ours, theirs, asked.user)


def verdict_of(after: Doubles, before: Doubles, user: Ints) -> Verdict:
    """Return the verdict of what each target (N,) gains under both models; user (N,) says whose it is."""
    difference = after - before
    per_user = np.bincount(user, difference - difference.mean())
    error = float(np.sqrt((per_user**2).sum()) / len(difference))
    tolerance = min(ERRORS * error, MAX_LOSS * float(before.mean()))
    is_worse = difference.mean() < -tolerance
    figures = f"ndcg {before.mean():.4f} -> {after.mean():.4f}, and may fall by {tolerance:.4f}"
    return Verdict(
        len(difference),
        float(before.mean()),
        float(after.mean()),
        error,
        tolerance,
        f"it ranks worse: {figures}" if is_worse else "",
    )


def defect_of(model: Learned) -> str:
    """Return why vectors of a model cannot be served, empty where they can."""
    vectors = model.towers.item_vectors().detach().float().cpu().numpy()
    inference = TowerModel.of(model.towers.cpu().eval(), model.settings.features).on_cpu()
    try:
        check_golden("that went on", inference.encode(golden_histories(model.vocabulary)).user, None, vectors)
    except ArtifactError as error:
        return str(error)
    return ""


def lost_items(before: Learned, after: Learned, max_items: int) -> str:
    """Return how many items are lost, other than for want of room; empty where none is."""
    lost = set(before.vocabulary.item_ids) - set(after.vocabulary.item_ids)
    if not lost or len(after.vocabulary.item_ids) >= max_items:
        return ""
    return f"it has lost {len(lost)} items, {min(lost)!r} among them"


def _asked(model: Learned, log: BehaviourLog, held_back: Flags) -> Asked:
    """Return the targets: what was held back and has an event before it; of many, some, evenly spread."""
    order = log.by_user()
    histories = material_of(log, model.vocabulary, model.settings).histories
    is_asked = held_back[order]
    is_asked[histories.starts[:-1]] = False
    event = np.flatnonzero(is_asked)
    event = event[:: max(1, -(-len(event) // MAX_RANKED_TARGETS))]
    return Asked(event, log.user.codes[order][event].astype(np.int64))


def _gains(model: Learned, log: BehaviourLog, asked: Asked, processes: Processes) -> Doubles:
    """Return what each target (N,) adds to NDCG, 0 for an item that the model does not know."""
    material = material_of(log, model.vocabulary, model.settings)
    is_target = np.zeros(len(log), np.bool_)
    is_target[asked.event] = True
    towers = model.towers.to(processes.device)
    rank = target_ranks(towers, material.stretches(is_target), processes=processes)
    is_known = material.histories.item[asked.event] >= FIRST_KNOWN
    gains = np.zeros(len(asked.event))
    gains[is_known] = 1 / np.log2(1 + rank.astype(np.float64))
    return gains
