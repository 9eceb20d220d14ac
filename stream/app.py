"""The Faust app: `faust -A stream.app worker`."""

import asyncio
import os
from typing import Any

from stream.explain.page import AT, ExplainPage
from stream.kafka.topics import WINDOWS_TABLE
from stream.settings import Settings
from stream.worker import memory
from stream.worker.footprint import MEASURE_EVERY_S
from stream.worker.start import make_app, one_line_errors

with one_line_errors():
    settings = Settings.from_environment(os.environ)
app = make_app(settings)
explain = ExplainPage(app)
app.pages = {AT: explain}

behaviour = app.topic(settings.topic, key_serializer="identity", value_serializer="identity")
windows = app.Table(
    WINDOWS_TABLE,
    key_type=bytes,
    value_type=bytes,
    options={"driver": "rocksdict"},
)


@app.agent(behaviour)
async def keep_fresh(batches: Any) -> None:
    """Fold every batch of events into its users' windows."""
    async for batch in batches.events():
        await app.handle(batch)


@app.task
async def encode() -> None:
    """Encode and write the users that changed."""
    if app.parts.refresher is not None:
        await app.parts.refresher.run()


@app.task
async def follow() -> None:
    """Follow the published model."""
    await app.follow()


@app.task
async def watch_topic() -> None:
    """Notice when the topic is not what it was."""
    await app.watch_topic()


@app.task
async def show() -> None:
    """Let the explain page see what this worker does."""
    explain.attach(asyncio.get_running_loop())


@app.task
async def checkpoint() -> None:
    """Make windows durable and commit source offsets, again and again."""
    await app.parts.commits.run(app.consumer)


@app.timer(settings.checkpoint_s)
async def sweep() -> None:
    """Drop users who were not seen for long, a few at a time."""
    await app.parts.sweeper.step(app.assignments.current)


@app.timer(MEASURE_EVERY_S)
async def measure() -> None:
    """Say how many bytes a user takes."""
    await app.parts.footprint.measure(app.assignments.current)


@app.timer(memory.TRIM_EVERY_S)
async def trim_memory() -> None:
    """Give memory back that nobody uses."""
    await asyncio.to_thread(memory.trim)
