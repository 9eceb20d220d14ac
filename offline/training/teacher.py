"""A ranker that teaches the towers: as published, and as it was before it learned the rows held out."""

from dataclasses import dataclass

from models.artifact.stores import find
from models.errors import ArtifactError, SettingsError
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.rankers.load import LoadedRanker, load_ranker
from offline.training.settings import TrainSettings

#: How rows are held out, alike from teacher and towers.
ALIKE = ("protocol", "test_share", "validation_share")


@dataclass(frozen=True, slots=True)
class Teacher:
    """A ranker of a store. `held_out` teaches while towers are chosen by held-out rows, then `published`."""

    where: Location
    published: LoadedRanker
    held_out: LoadedRanker

    def check(self, log: BehaviourLog, settings: TrainSettings) -> None:
        """Raise SettingsError where it did not learn of this log what towers with these settings do."""
        known = self.published.training
        if known.get("data_fingerprint") != log.fingerprint:
            raise SettingsError(
                f"--teacher {self.where} has learned another log than {log.path}: give the one that it was "
                "trained on"
            )
        for name in ALIKE:
            ours, theirs = getattr(settings, name), known.get(name)
            if ours != theirs:
                raise SettingsError(
                    f"--teacher {self.where} was trained with {name} {theirs!r}, and this would be with "
                    f"{ours!r}: it would teach rows that are held out; train both alike"
                )
        if settings.final_fit and self.published is self.held_out:
            raise SettingsError(
                f"--teacher {self.where} was trained with final_fit = false, so it knows nothing of the rows "
                "that the final fit learns: train both alike"
            )


def load_teacher(where: Location) -> Teacher:
    """Return the ranker at a path or URL; ArtifactError where there is none, or what has not learned all rows
    is not beside it.
    """
    published = load_ranker(where)
    version = published.training.get("held_out_version")
    if version is None:
        return Teacher(where, published, published)
    try:
        return Teacher(where, published, load_ranker(find(where).store.where / version))
    except ArtifactError as error:
        raise ArtifactError(
            f"--teacher {where} has learned the rows held out, and its version {version}, which has not, is "
            f"not beside it ({error}): train it again"
        ) from error
