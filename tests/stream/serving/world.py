"""Users whose events are folded, encoded and written as a worker does, and rankers of random weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import redis
import torch

from models.arrays import Floats
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.rankers.artifact import save_ranker, scores_of
from models.rankers.base import RankerModule
from models.rankers.kinds import make_ranker
from models.rankers.settings import RankerSettings
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from models.windows.histories import Histories
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, WindowSettings, window_to_bytes
from stream.encoding.encoder import Encoder
from stream.serving import Candidate, Ranker, Reader, Recommender
from stream.store.vector_store import Store, StoreSettings

PREFIX = "test-ranker:"
ITEMS, KNOWN_TO_RANKER = 60, 40
NOW_MS = 1_418_900_000_000
#: What the shop calls an item's category; the models know c0 and c1.
CATEGORY = {f"i{item}": f"c{item % 3}" for item in range(ITEMS + 10)}


def vocabulary(items: int) -> Vocabulary:
    ids = ["", "", "c0", "c1"]
    categories = [CATEGORY[f"i{item}"] for item in range(items)]
    return Vocabulary(
        [f"i{item}" for item in range(items)],
        [ids.index(each) if each in ids else 1 for each in categories],
        ids[2:],
    )


def save_towers(store: Path, seed: int = 0) -> Artifact:
    """Save dual towers of random weights."""
    torch.manual_seed(seed)
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    made = DualTowers(vocabulary(ITEMS), settings.features, settings.model)
    return artifacts.save(store, made, vocabulary(ITEMS), settings, {}, {})


def save_din(where: Path, seed: int = 0, features: bool = False) -> tuple[str, RankerModule]:
    """Publish a DIN of random weights; it must be right for any."""
    torch.manual_seed(seed)
    known = vocabulary(KNOWN_TO_RANKER)
    settings = RankerSettings(max_events=10, item_dimension=8, category_dimension=8, features=features)
    ranker = make_ranker(known, settings)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.mul_(3)  # scores that differ by more than rounding
    saved = save_ranker(where, ranker, known, {}, {})
    artifacts.publish(where, saved.version)
    return saved.version, ranker.eval()


def offline_scores(
    ranker: RankerModule, events: Sequence[IncomingEvent], candidates: Sequence[Candidate]
) -> Floats:
    """Return what a ranker gives, in torch and from the log, without Redis or the bytes of windows."""
    known = vocabulary(KNOWN_TO_RANKER)
    ordered = sorted(events, key=lambda event: (event.time_ms, event.offset))
    items = known.item_indices([each.item_id for each in ordered])
    history = Histories(
        items,
        known.categories_of(items, known.category_indices([each.category for each in ordered])),
        np.array([each.behaviour for each in ordered], np.uint8),
        np.array([each.time_ms for each in ordered], np.int64),
        np.array([0, len(ordered)]),
    )
    item = known.item_indices([each.item_id for each in candidates])
    category = known.categories_of(item, known.category_indices([each.category for each in candidates]))
    found: Floats = scores_of(ranker, history, np.array([NOW_MS]), item[None], category[None])[0]
    return found


class Stream:
    """Users' events, folded, encoded and written as a worker does."""

    def __init__(self, client: redis.Redis, towers: Artifact, history_events: int = 10) -> None:
        for key in client.scan_iter(f"*{PREFIX}*"):
            client.delete(key)
        self.store = Store(client, StoreSettings(key_prefix=PREFIX, history_events=history_events))
        self.store.registry.serve(towers.version, 1)
        self.encoder = Encoder(towers)
        self.store.upsert(self.encoder.cold_start_rows())
        self.windows: dict[str, Window] = {}
        self.events: dict[str, list[IncomingEvent]] = {}
        self.offset = 0

    def send(self, user_id: str, item: int, time_ms: int, behaviour: int = 1) -> None:
        item_id = f"i{item}"
        self.offset += 1
        event = IncomingEvent(self.offset, time_ms, behaviour, item_id, CATEGORY[item_id], self.offset)
        self.events.setdefault(user_id, []).append(event)
        window = self.windows.setdefault(user_id, Window())
        fold(window, event, "topic", 0, WindowSettings())
        self.store.upsert(self.encoder.rows([(user_id, window_to_bytes(window))], 7))


CANDIDATES = [Candidate(item, CATEGORY[item]) for item in (f"i{n}" for n in range(0, ITEMS + 10, 3))]


def ranker_of(client: redis.Redis, store: Path, ranker: Path | None = None) -> Ranker:
    reader = Reader(client, key_prefix=PREFIX)
    return Ranker(reader, Recommender(reader, store), ranker)
