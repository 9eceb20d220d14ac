"""The rows of a log that a worker would take."""

import logging

import numpy as np

from models.errors import DataError
from models.events import MAX_AHEAD_MS
from models.log.behaviour_log import BehaviourLog

logger = logging.getLogger("bootstrap")


def sound_rows(log: BehaviourLog, until_ms: int | None, now_s: float) -> BehaviourLog:
    """Return the rows that a worker would take, those before `until_ms`; DataError where there are none."""
    is_sound = (log.time_ms > 0) & (log.time_ms <= now_s * 1000 + MAX_AHEAD_MS)
    if not is_sound.all():
        row = int(np.argmin(is_sound))
        logger.warning(
            "%d rows are left out, as a worker would refuse them: their times are ahead of now; see %s",
            *(int((~is_sound).sum()), log.places.name(int(log.line[row]))),
        )
    wanted = is_sound if until_ms is None else is_sound & (log.time_ms < until_ms)
    if not wanted.any():
        raise DataError(f"{log.path}: none of its {len(log)} rows is in the time asked for: change --until")
    return log if wanted.all() else log.select(wanted)
