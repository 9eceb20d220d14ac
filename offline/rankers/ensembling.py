"""Trained rankers -> one artifact: weights by the validation slice, figures of the test slice, published."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.arrays import Doubles
from models.artifact.stores import find, open_store
from models.errors import SettingsError
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.rankers.ensemble import EnsembleSettings, How
from models.rankers.ensemble_artifact import save_ensemble
from models.rankers.load import LoadedRanker, load_ranker
from offline.rankers.evaluation import train_settings_of
from offline.rankers.measures import Quality, Scored, quality_of
from offline.rankers.questions import Drawer
from offline.rankers.samples import Samples, check_samples, material_of
from offline.rankers.scoring import ask, giving, served
from offline.rankers.settings import RankerTrainSettings
from offline.rankers.weights import weights_of
from offline.training.data import slice_log
from offline.training.store_kind import check_kind

#: What members that are to be one artifact have learned alike.
ALIKE = (
    *("data_fingerprint", "protocol", "test_share", "validation_share", "final_fit"),
    *("positives", "negatives_from", "negatives"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A ranker of a store: as published, and as it was before it learned the rows held out."""

    where: Location
    loaded: LoadedRanker
    held_out: LoadedRanker


@dataclass(frozen=True, slots=True)
class Ensembled:
    """What was published, and how good each member (by place) and all together are on the test rows."""

    artifact: LoadedRanker
    publication: int
    settings: EnsembleSettings
    members: list[Quality]
    together: Quality


def make_ensemble(log: BehaviourLog, stores: Sequence[Location], how: How, into: Location) -> Ensembled:
    """Weigh rankers by the validation slice of the log that they learned, and publish them as one.

    The weights are found by the versions that have not learned the rows held out; so are the figures, and one
    of these is saved beside what is published, as a ranker's. Raises SettingsError where they do not go
    together, ArtifactError where one is damaged.
    """
    check_kind(into, is_ranker=True)
    open_store(into).prepare()
    members = [_member(where) for where in stores]
    _check(log, members)
    settings = EnsembleSettings(how, tuple(each.loaded.settings for each in members), (1.0,) * len(members))
    train = train_settings_of(members[0].held_out)
    asked = _asked(log, members[0].held_out, settings, train)
    scores, scored = _scores(asked["validation"], asked["train"], members, settings, train)
    settings = EnsembleSettings(how, settings.members, *weights_of(how, scores, scored))
    scores, scored = _scores(asked["test"], asked["train"], members, settings, train)
    qualities = [quality_of(_as_scored(each, scored)) for each in scores]
    together = quality_of(_as_scored(np.array(settings.weights) @ scores + settings.bias, scored))
    saved = _save(into, members, settings, qualities, together)
    return Ensembled(saved, open_store(into).publish(saved.version), settings, qualities, together)


def _save(
    into: Location,
    members: Sequence[Member],
    settings: EnsembleSettings,
    qualities: Sequence[Quality],
    together: Quality,
) -> LoadedRanker:
    """Save the versions that have not learned the rows held out, then those that are published."""
    metrics = {"test": asdict(together), "test_of_members": [asdict(each) for each in qualities]}
    held_out = [each.held_out for each in members]
    known = {"members": [each.version for each in held_out]}
    training = {**held_out[0].training, **known}
    saved = save_ensemble(into, held_out, settings, metrics, training)
    published = [each.loaded for each in members]
    if all(one is other for one, other in zip(published, held_out, strict=True)):
        return saved
    known = {"members": [each.version for each in published]}
    training = {**published[0].training, **known, "held_out_version": saved.version}
    return save_ensemble(into, published, settings, metrics, training)


def _member(where: Location) -> Member:
    """Return a store's ranker, and the version of it that has not learned the rows held out."""
    loaded = load_ranker(where)
    version = loaded.training.get("held_out_version")
    return Member(where, loaded, load_ranker(find(where).store.where / version) if version else loaded)


def _check(log: BehaviourLog, members: Sequence[Member]) -> None:
    """Raise SettingsError where rankers did not learn the same of this log."""
    first = members[0]
    if len(members) < 2:
        raise SettingsError("an ensemble needs two rankers at least: give --ranker again")
    if first.loaded.training.get("data_fingerprint") != log.fingerprint:
        raise SettingsError(
            f"{first.where} has learned another log than {log.path}: give the one that it was trained on"
        )
    for each in members:
        if "members" in each.loaded.training:
            raise SettingsError(f"{each.where} is an ensemble itself: name what it is made of")
        for name in ALIKE:
            ours, theirs = (known.loaded.training.get(name) for known in (first, each))
            if ours != theirs:
                raise SettingsError(
                    f"{each.where} was trained with {name} {theirs!r}, {first.where} with {ours!r}: train "
                    "them alike"
                )
        if _known(each) != _known(first):
            raise SettingsError(f"{each.where} knows other items than {first.where}: train them alike")


def _known(member: Member) -> list[bytes]:
    """Return what the versions of a ranker know."""
    return [each.vocabulary.to_bytes() for each in (member.loaded, member.held_out)]


def _asked(
    log: BehaviourLog, loaded: LoadedRanker, settings: EnsembleSettings, train: RankerTrainSettings
) -> dict[str, Samples]:
    """Return the samples of each slice, as all members can read them."""
    slices = slice_log(log, train.slicing)
    material = material_of(log, loaded.vocabulary, settings.reads)
    found = {name: material.samples(getattr(slices, name), train) for name in ("train", "validation", "test")}
    for name, samples in found.items():
        check_samples(log, name, samples, train)
    return found


def _scores(
    asked: Samples,
    learned: Samples,
    members: Sequence[Member],
    settings: EnsembleSettings,
    train: RankerTrainSettings,
) -> tuple[Doubles, Scored]:
    """Return what each member gives the same candidates (M, N), and those with their labels."""
    drawer = Drawer(learned, members[0].held_out.vocabulary, train)
    found = [ask(asked, drawer, settings.reads, train, giving(served(member.held_out))) for member in members]
    return np.stack([each.score for each in found]), found[0]


def _as_scored(score: Doubles, scored: Scored) -> Scored:
    return Scored(score, scored.label, scored.weight, scored.user, scored.list)
