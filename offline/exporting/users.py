"""Every user of a log with the vectors that an artifact gives them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.artifact.artifact import Artifact
from models.encoder import Vectors
from models.log.behaviour_log import BehaviourLog
from models.windows.histories import histories_of_cold_start
from models.windows.log_histories import histories_of_log


@dataclass(frozen=True, slots=True)
class EncodedUsers:
    """B users with their vectors; ts_ms (B,) the time of each one's last event, count (B,) events."""

    user_ids: list[str]
    vectors: Vectors
    ts_ms: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]


def encode_log(artifact: Artifact, log: BehaviourLog, until_ms: int | None = None) -> EncodedUsers:
    """Return every user of a log as of their last event, or their last before `until_ms`."""
    settings = artifact.settings
    user_ids, histories = histories_of_log(log, artifact.vocabulary, settings.window, until_ms)
    last = histories.time_ms[histories.starts[1:] - 1] if len(user_ids) else histories.time_ms
    return EncodedUsers(user_ids, artifact.encode(histories, user_ids), last, np.diff(histories.starts))


def cold_start_user(artifact: Artifact) -> Vectors:
    """Return the vectors (1, D) of a cold-start user."""
    return artifact.encode(histories_of_cold_start([""], artifact.vocabulary))
