"""What a learner of items may hold, and what its compiled loops are told: rules, and room to work in."""

from dataclasses import dataclass

import numpy as np

from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.items.rows import NEW_SQUARES, Room, Rules


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """How much a learner holds; what must be the same wherever live items are scored is in the artifact."""

    #: Items that the model does not know, at most; the one whose last event is oldest gives way.
    max_new_items: int = 300_000
    #: Users whose last events are held, at most; the one who was active least recently gives way.
    max_users: int = 1_000_000
    #: Different (user, item, hour) that are remembered at least, so that each counts once.
    remembered_pairs: int = 1_000_000
    #: A new item without an event for so long is gone (ms of event time).
    item_ttl_ms: int = 14 * 86_400_000
    #: An item's own vectors are published from so many different users on (5 at most are told apart).
    min_readers: int = 5
    #: Negatives of each event, and the last events of which they are drawn.
    negatives: int = 32
    recent_events: int = 4_096
    #: Seed of the drawing.
    seed: int = 0


def rules_of(artifact: Artifact, live: LiveItemsSettings, settings: LearnerSettings) -> Rules:
    """Return what the loops obey."""
    return Rules(
        half_lives_ms=live.half_lives_ms,
        rate=live.rate,
        moves_known=live.moves_known,
        pull=live.pull,
        learned_until_ms=live.learned_until_ms,
        max_items=len(artifact.item_ids) + settings.max_new_items,
        max_users=settings.max_users,
        item_ttl_ms=settings.item_ttl_ms,
        start_squares=NEW_SQUARES,
        horizon_ms=artifact.settings.window.horizon_ms,
        seed=settings.seed,
    )


def room_of(dimension: int, held: int, negatives: int) -> Room:
    """Return room for vectors (dimension,), `held` events of a user, and one target's negatives."""
    return Room(
        user=np.zeros(dimension, np.float32),
        short=np.zeros(dimension, np.float32),
        gradient=np.zeros(dimension, np.float32),
        start_in=np.zeros(dimension, np.float32),
        start_out=np.zeros(dimension, np.float32),
        weight=np.zeros(held, np.float32),
        rows=np.zeros(held, np.int64),
        drawn=np.zeros(negatives + 1, np.int64),
        scores=np.zeros(negatives + 1, np.float32),
        has_long=np.zeros(1, np.bool_),
        trained_user=np.zeros(dimension, np.float32),
        trained_short=np.zeros(dimension, np.float32),
        trained_scores=np.zeros(negatives + 1, np.float32),
    )
