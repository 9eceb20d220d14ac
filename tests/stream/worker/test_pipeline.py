"""When a checkpoint is due."""

import asyncio
from types import SimpleNamespace

import pytest

from models.windows.window import WindowSettings
from stream.settings import Settings
from stream.windows.partition import DirtyUser, Partition
from stream.worker.parts import Parts, Topic
from stream.worker.pipeline import Pipeline


def pipeline_of(fold: Partition, checkpoint_s: float) -> Pipeline:
    parts = Parts(Topic("events", "id"), WindowSettings(), None, None, None)  # type: ignore[arg-type]
    pipeline = Pipeline(Settings(checkpoint_s=checkpoint_s), parts)
    pipeline.partitions[0] = fold
    return pipeline


def fold_at(position: int, durable_position: int) -> Partition:
    fold = Partition("id", 0, SimpleNamespace(), lambda keys: [])  # type: ignore[arg-type]
    fold.position, fold.durable_position = position, durable_position
    return fold


def test_offsets_are_due_as_soon_as_the_last_vector_is_written() -> None:
    async def write() -> None:
        due = asyncio.create_task(pipeline.until_checkpoint())
        await asyncio.sleep(0.05)
        assert not due.done()
        fold.in_flight["u"] = fold.dirty.pop("u")
        pipeline.refresher._finish([(fold, "u")])
        await asyncio.wait_for(due, 1)

    fold = fold_at(position=5, durable_position=5)
    fold.dirty["u"] = DirtyUser(4, 1, [])
    pipeline = pipeline_of(fold, checkpoint_s=1_000)
    asyncio.run(write())


def test_windows_are_due_in_a_lull_although_vectors_are_still_to_be_written() -> None:
    fold = fold_at(position=5, durable_position=0)
    fold.dirty["u"] = DirtyUser(4, 1, [])
    pipeline = pipeline_of(fold, checkpoint_s=10)
    asyncio.run(asyncio.wait_for(pipeline.until_checkpoint(), 5))


@pytest.mark.parametrize("durable_position", [0, 5])
def test_nothing_is_due_early_once_all_is_committed(durable_position: int) -> None:
    fold = fold_at(position=5, durable_position=durable_position)
    pipeline = pipeline_of(fold, checkpoint_s=1)
    pipeline._committed = {0: 5}
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(pipeline.until_checkpoint(), 0.5))


def test_nothing_is_due_early_while_partitions_may_be_another_workers() -> None:
    pipeline = pipeline_of(fold_at(position=5, durable_position=5), checkpoint_s=1)
    pipeline.freeze_detector = SimpleNamespace(is_in_doubt=lambda: True)  # type: ignore[assignment]
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(pipeline.until_checkpoint(), 0.5))
