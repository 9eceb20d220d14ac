"""`./run bench adopt`: models of other libraries, served fresh: the vectors are their own, and how fast."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from bench.peers.libraries import LIBRARIES, MODEL, Library, Trained, train
from local.proof import prove, wait_until_committed
from models.adopted.settings import EncoderSettings
from models.artifact.artifact import Artifact
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from models.windows.log_histories import histories_of_log
from models.windows.window import DAY_MS, WindowSettings
from offline.adopting.run import adopt
from offline.options import data_path_option
from offline.publishing.rollout import wait_until_served
from replay.publisher import PublisherSettings, ReplayProducer
from replay.source import MessageSource
from stream.kafka.topics import ensure_topic
from stream.serving.reader import Reader
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.model_registry import ModelRegistry

#: Vectors that differ by more are not the same.
TOLERANCE = 1e-4
PARTITIONS = 4
#: Windows go back as far as the libraries' histories do.
WINDOW = WindowSettings(horizon_ms=100 * 365 * DAY_MS)
TIMEOUT_S = 600.0
#: Users encoded at once, as the worker does.
BATCH_USERS = 256

COLUMNS = {"users": ",.0f", "largest difference": ".1e", "own users/s": ",.0f", "twintide users/s": ",.0f"}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@data_path_option
@log_format_option
@click.option("--epochs", default=1, show_default=True, help="That each library trains.")
@click.option("--only", help="The libraries whose name holds this.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(
    data_path: tuple[str, ...], log_format: str, epochs: int, only: str | None, json_path: Path | None
) -> None:
    """Train, export, adopt and stream models that others wrote, and compare each user's vector with theirs.

    Each library trains its model on the log, in an environment of its own (made once, which takes minutes),
    and says what it makes of every user. The first model is adopted and half of the log is sent to Kafka; a
    worker writes its users to Redis. The next one is adopted, and serves when all users have its vectors;
    the rest of the log is sent, and both are kept fresh. Then each user's vector is read from Redis: where
    it differs from the library's own by over 1e-4, the benchmark fails.

    Speed is that of encoding all users, from their histories, by the library's own loop and by ours.

    \b
    Example: ./run bench adopt --data-path data/behaviour.csv --json adopt.json
    """
    log_to_stderr()
    chosen = [each for each in LIBRARIES if (only or "").lower() in each.name.lower()]
    if not chosen or epochs < 1:
        raise SettingsError(f"--only is {only!r}, --epochs {epochs}: nothing is left to do")
    log = read_cached(data_path, read_log_format(log_format)).in_time_order()
    report = run(log, chosen, epochs)
    print_table(f"{log.path}, {len(log):,} events", report.results, COLUMNS)
    for name, ratio in report.ratios.items():
        click.echo(f"{name} {ratio:.1f}x")
    if json_path:
        report.write(json_path)


def run(log: BehaviourLog, libraries: Sequence[Library], epochs: int) -> Report:
    """Show each library's model, and return what was found. Raises TwintideError where vectors differ."""
    with stage(PARTITIONS) as here:
        models = {
            each.name: train(each, log, here.directory / f"library-{number}", epochs)
            for number, each in enumerate(libraries)
        }
        results = _streamed(here, log, libraries, models)
    report = Report({"epochs": epochs, "fingerprint": log.fingerprint, **MODEL}, results)
    for name, found in results.items():
        report.ratios[f"twintide/{name}"] = found["twintide users/s"] / found["own users/s"]
    return report


def _streamed(
    here: Stage, log: BehaviourLog, libraries: Sequence[Library], models: Mapping[str, Trained]
) -> dict[str, Result]:
    """Adopt one model after the other while the log is streamed, and compare all in the end."""
    settings = Settings(
        kafka=here.kafka,
        redis=here.redis,
        artifact=here.artifact_store,
        app_id=here.group("twintide"),
        topic=f"{here.prefix}-events",
        dead_letter_topic=f"{here.prefix}-dlq",
        key_prefix=f"{here.prefix}-twintide:",
    )
    ensure_topic(here.kafka, settings.topic, PARTITIONS)
    worker = here.worker("twintide", settings.topic)
    ends = np.linspace(0, len(log), len(libraries) + 1).astype(int)
    results: dict[str, Result] = {}
    adopted: dict[str, Artifact] = {}
    with redis_client(here.redis) as client:
        try:
            for library, begin, end in zip(libraries, ends[:-1], ends[1:], strict=True):
                adopted[library.name] = _adopt(library, models[library.name], here.artifact_store)
                if begin == 0:
                    worker.start()
                registry = ModelRegistry(client, settings.key_prefix)
                wait_until_served(registry, adopted[library.name].version, TIMEOUT_S)
                _send(settings, log.select(np.arange(begin, end)))
            wait_until_committed(settings, TIMEOUT_S)
            for name, artifact in adopted.items():
                reader = Reader(client, key_prefix=settings.key_prefix, model=artifact.version)
                results[name] = _compared(name, models[name], reader, log, artifact)
            proof = prove(settings, published=len(log))
            click.echo(str(proof), err=True)
            if not proof.is_ok:
                raise TwintideError(f"the proof failed: {proof.complaint}")
        finally:
            worker.kill()
    return results


def _adopt(library: Library, model: Trained, store: Path) -> Artifact:
    most = MODEL["session_max_len"]
    encoder = EncoderSettings(padding="left" if library.padding == "left" else "right", max_events=most)
    return adopt(model.given, store, encoder, WINDOW, {"protocol": "time", "cutoff_ms": None})


def _send(settings: Settings, log: BehaviourLog) -> None:
    producer = ReplayProducer(settings.kafka, PublisherSettings(topic=settings.topic))
    producer.send(MessageSource(log).messages(slice(0, len(log))))
    producer.finish()


def _compared(name: str, model: Trained, reader: Reader, log: BehaviourLog, artifact: Artifact) -> Result:
    """Return the figures of one model; TwintideError where a user's vector in Redis is not the library's."""
    found = reader.read(model.user_ids)
    without = [each.user_id for each in found if each.reason]
    if without:
        raise TwintideError(f"{name}: {len(without)} users have no vector in Redis, such as {without[0]!r}")
    difference = float(np.abs(np.stack([each.vec for each in found]) - model.vectors).max())
    if not difference <= TOLERANCE:
        raise TwintideError(f"{name}: vectors in Redis differ by {difference:.1e} from the library's own")
    _, histories = histories_of_log(log, artifact.vocabulary, WINDOW)
    artifact.encode(histories.take(np.arange(min(BATCH_USERS, len(histories)))))  # allocates what it needs
    started = time.perf_counter()
    for begin in range(0, len(histories), BATCH_USERS):
        artifact.encode(histories.take(np.arange(begin, min(begin + BATCH_USERS, len(histories)))))
    seconds = time.perf_counter() - started
    return {
        "users": float(len(found)),
        "largest difference": difference,
        "own users/s": len(found) / model.seconds,
        "twintide users/s": len(histories) / seconds,
    }


if __name__ == "__main__":
    main(prog_name="./run bench adopt")
