"""A made-up log with structure worth learning, its time bent so that events come at an even pace."""

from dataclasses import replace

import numpy as np

from models.arrays import Ints
from models.log.behaviour_log import BehaviourLog, Column
from offline.synthetic.behaviour import FIRST_SECOND, MONTH_S, SampleRows, SampleSettings, generate

#: Rows of a user, on average: few enough that what comes in a minute fits into the user's window.
ROWS_PER_USER = 40
#: The pause that ends a session where a month takes a month (s).
GAP_S = 1_800


def even_log(rows: int, step_ms: float, seed: int = 7) -> BehaviourLog:
    """Return a log in time order, each row `step_ms` of event time after the one before.

    Users do in it what they do in a month of `offline.sample`, in the same order, and only faster.
    """
    settings = SampleSettings(users=max(rows // ROWS_PER_USER, 1), rows=rows, seed=seed)
    (sample,) = generate(settings)  # one block: more than it holds would take minutes to play
    log = _log(sample, f"even{seed}").in_time_order()
    times_ms = FIRST_SECOND * 1_000 + (np.arange(rows) * step_ms).astype(np.int64)
    return replace(log, time_ms=times_ms, line=np.arange(2, rows + 2))


def session_gap_ms(rows: int, step_ms: float) -> int:
    """Return the pause that ends a session in such a log."""
    return max(int(GAP_S * rows * step_ms / MONTH_S), 1)


def _log(sample: SampleRows, fingerprint: str) -> BehaviourLog:
    return BehaviourLog(
        path="made up by bench",
        fingerprint=fingerprint,
        precision_ms=1,
        user=_column(sample.user_id),
        item=_column(sample.item_id),
        category=_column(sample.category_id),
        geohash=Column(sample.geohash, np.array(sample.geohashes, object)),
        behaviour=sample.behaviour,
        time_ms=sample.time_s * 1_000,
        line=np.arange(2, len(sample.time_s) + 2),
    )


def _column(ids: Ints) -> Column:
    values, codes = np.unique(ids, return_inverse=True)
    return Column(codes.astype(np.int32), values.astype(str).astype(object))
