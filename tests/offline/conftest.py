"""A behaviour log whose next item follows from the last, small enough to learn in seconds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time"


def write_rows(path: Path, rows: list[tuple[str, str, datetime]]) -> Path:
    """Write (user, item, time) rows in Tianchi's columns."""
    lines = [f"{user},{item},1,,c{hash_of(item)},{time:%Y-%m-%d %H:%M:%S}" for user, item, time in rows]
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def hash_of(item: str) -> int:
    """Return a small number that is always the same for an item."""
    return sum(item.encode()) % 5


@pytest.fixture(scope="session")
def walk_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a log of 60 users who walk round a circle of 40 items; ids are no numbers."""
    random = np.random.default_rng(3)
    rows = []
    start = datetime(2024, 3, 1, tzinfo=UTC)
    for user in range(60):
        place, time = int(random.integers(40)), start + timedelta(minutes=int(random.integers(600)))
        for _ in range(40):
            rows.append((f"user#{user}", f"item-{place}é", time))
            place = (place + 1) % 40 if random.random() < 0.9 else int(random.integers(40))
            time += timedelta(minutes=int(random.choice([1, 5, 300])))
    rows.append(("late#1", "item-0é", start + timedelta(days=90)))
    order = random.permutation(len(rows))
    return write_rows(tmp_path_factory.mktemp("walk") / "walk.csv", [rows[place] for place in order])
