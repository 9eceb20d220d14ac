"""Until when a model has learned: by event time, and for a log that comes from a topic in each partition.

Partitions do not come in step: what one worker had not folded yet when the stream was read is older than what
another had. So what is newer is told partition by partition; within one, events come in the order of time.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.arrays import Flags
from models.errors import ArtifactError
from models.events import MAX_AHEAD_MS
from models.log.behaviour_log import BehaviourLog

logger = logging.getLogger(__name__)

#: What an artifact's `training` has: the newest event time learned (epoch ms), of all, and of each partition.
ALL, OF_PARTITIONS = "learned_until_ms", "learned_until_of_partitions_ms"


def until_of(log: BehaviourLog) -> dict[str, Any]:
    """Return until when has learned what has learned every row of a log, for `training`.

    Warns where that is ahead of the clock: whatever happens until then will not be taken for new.
    """
    found: dict[str, Any] = {ALL: int(log.time_ms.max()), OF_PARTITIONS: None}
    if found[ALL] > time.time() * 1_000 + MAX_AHEAD_MS:
        logger.warning(
            "%s: its newest row is of %s, ahead of this host's clock: --continue-from takes nothing before "
            "that for new; leave such rows out, or say the format's time_unit",
            *(log.path, np.datetime64(found[ALL], "ms")),
        )
    if log.partition is not None:
        of_partitions = np.zeros(int(log.partition.max()) + 1, np.int64)
        np.maximum.at(of_partitions, log.partition[log.user.codes], log.time_ms)
        found[OF_PARTITIONS] = of_partitions.tolist()
    return found


def learned_until(training: Mapping[str, Any], name: str) -> int:
    """Return the time (epoch ms) of the newest row learned. Raises ArtifactError, which calls it `name`."""
    until_ms: int | None = training.get(ALL)
    if until_ms is None:
        raise ArtifactError(f"{name} does not say until when it has learned: train it anew")
    return until_ms


def newer_rows(log: BehaviourLog, training: Mapping[str, Any], name: str) -> Flags:
    """Return which rows (R,) of a log are newer than what was learned. Raises ArtifactError.

    A partition that `training` knows nothing of is asked as all are.
    """
    until_ms, of_partitions = learned_until(training, name), training.get(OF_PARTITIONS)
    if of_partitions is None or log.partition is None:
        return log.time_ms > until_ms
    untils_ms = np.full(max(int(log.partition.max()) + 1, len(of_partitions)), until_ms)
    untils_ms[: len(of_partitions)] = of_partitions
    return log.time_ms > untils_ms[log.partition][log.user.codes]
