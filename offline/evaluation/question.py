"""What an evaluation asks of an artifact, where nothing else is said: as it was trained."""

from models.artifact.artifact import Artifact
from models.errors import SettingsError
from models.log.behaviour_log import BehaviourLog
from offline.options import cutoff_of, describe_time
from offline.ranking.protocols import Cases, cases_by_time, cases_leave_one_out


def question_of(
    artifact: Artifact, log: BehaviourLog, protocol: str | None, cutoff: str | None
) -> tuple[Cases, str]:
    """Return the cases and a description of what they ask. SettingsError where options conflict."""
    vocabulary, window = artifact.vocabulary, artifact.settings.window
    if (protocol or artifact.training["protocol"]) == "leave-one-out":
        if cutoff is not None:
            raise SettingsError("--cutoff means nothing with --protocol leave-one-out: leave one of them out")
        return cases_leave_one_out(log, vocabulary, window), "leave-one-out: each user's last event"
    cutoff_ms = cutoff_of(artifact, cutoff)
    question = f"first event at or after {describe_time(cutoff_ms)} (--until {cutoff_ms})"
    return cases_by_time(log, vocabulary, window, cutoff_ms), question
