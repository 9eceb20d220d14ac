"""`python -m offline.export`: every user of a log, as of their last event, into a store or files."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from models.artifact.artifact import Artifact, load
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.inference.inference import Vectors
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from models.towers.histories import histories_of_cold_start
from models.towers.log_histories import histories_of_log
from offline.options import artifact_option, data_path_option
from stream.encoding.encoder import Encoder
from stream.store.clients import redis_client
from stream.store.connection import RedisConnection
from stream.store.vector_store import Store, UserRow

#: Length of the time formats that --until takes, and the formats.
TIME_FORMATS = ("%Y-%m-%d %H", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")


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
    return EncodedUsers(user_ids, artifact.encode(histories), last, np.diff(histories.starts))


def cold_start_user(artifact: Artifact) -> Vectors:
    """Return the vectors (1, D) of a cold-start user."""
    return artifact.encode(histories_of_cold_start([""], artifact.vocabulary))


def export_to_parquet(artifact: Artifact, users: EncodedUsers, out: Path) -> tuple[Path, Path]:
    """Write users.parquet and items.parquet into `out`; the dot product of two vecs is the score.

    The last row of the users has an empty user_id and ts 0: what a cold-start user gets.
    """
    out.mkdir(parents=True, exist_ok=True)
    cold_start = cold_start_user(artifact)
    columns = {"user_id": pa.array([*users.user_ids, ""], pa.string())}
    for column, name in (("vec", "user"), ("long", "long"), ("short", "short")):
        matrix = np.concatenate([getattr(users.vectors, name), getattr(cold_start, name)])
        columns[column] = _list_array(matrix)
    columns["ts"] = pa.array(np.append(users.ts_ms, 0), pa.int64())
    items = {
        "item_id": pa.array(artifact.item_ids, pa.string()),
        "vec": _list_array(artifact.item_vectors),
    }
    paths = out / "users.parquet", out / "items.parquet"
    for path, table in zip(paths, (pa.table(columns), pa.table(items)), strict=True):
        pyarrow.parquet.write_table(table, path)
    return paths


def _list_array(matrix: npt.NDArray[np.float32]) -> pa.Array:
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel(), pa.float32()))


def export_to_redis(artifact: Artifact, users: EncodedUsers, store: Store, as_json: bool) -> int:
    """Write every user and cold-start users into Redis, whatever is stored there; return how many users.

    As the worker's HASHes, or `as_json` as a JSON list under the raw user id, which cold-start users lack.
    Epoch and offset are 0, so the first event that a worker sees of a user replaces the row. Readers get this
    model when all are written.
    """
    if as_json:
        store.set_json(_rows(artifact, users))
    else:
        store.registry.stage(artifact.version, artifact.publication, partitions=1)
        cold_start = Encoder(artifact).cold_start_rows(["", *artifact.vocabulary.category_ids])
        store.upsert(_rows(artifact, users) + cold_start, force=True)
        store.registry.serve(artifact.version, artifact.publication)
    return len(users.user_ids)


def _rows(artifact: Artifact, users: EncodedUsers) -> list[UserRow]:
    vectors = users.vectors
    return [
        UserRow(
            user_id=user_id,
            vec=vectors.user[row],
            long=vectors.long[row],
            short=vectors.short[row],
            model=artifact.version,
            epoch=0,
            seq=0,
            ts=int(users.ts_ms[row]),
            n=int(users.count[row]),
        )
        for row, user_id in enumerate(users.user_ids)
    ]


def parse_time(text: str) -> int:
    """Return the epoch ms of an event time as the log writes them, or of epoch ms given as digits."""
    if text.isdigit():
        return int(text)
    for form in TIME_FORMATS:
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            continue
    raise SettingsError(
        f"--until is {text!r}; it must be like '2014-12-16 12', '2014-12-16 12:30:00' or epoch ms"
    )


def required_out(out: Path | None, to: str) -> Path:
    """Return --out; SettingsError where parquet has nowhere to go."""
    if out is None:
        raise SettingsError(f"--to {to} writes files: say where with --out DIR")
    return out


@click.command(cls=Command)
@artifact_option
@data_path_option
@log_format_option
@click.option("--to", type=click.Choice(["redis", "json", "parquet"]), default="redis", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for --to parquet.")
@click.option("--until", help="Only events before this time, 'YYYY-MM-DD HH[:MM[:SS]]' or epoch ms.")
def main(
    artifact_path: Path, data_path: Path, log_format: str, to: str, out: Path | None, until: str | None
) -> None:
    """Encode every user of a behaviour log as of their last event, and write the vectors out.

    parquet: users.parquet (user_id, vec, long, short, ts) and items.parquet (item_id, vec) under --out; the
    score of an item for a user is the dot product of the two vecs. redis: the HASH that the worker writes.
    json: a JSON list under the raw user id.

    \b
    Example:
      python -m offline.export --artifact artifacts --data-path data/behaviour.csv --to parquet --out vectors
    """
    log_to_stderr()
    until_ms = None if until is None else parse_time(until)
    directory = required_out(out, to) if to == "parquet" else None
    artifact = load(artifact_path)
    users = encode_log(artifact, read_cached(data_path, read_log_format(log_format)), until_ms)
    if directory is not None:
        for path in export_to_parquet(artifact, users, directory):
            click.echo(path)
    else:
        store = Store(redis_client(RedisConnection.from_environment(os.environ)))
        written = export_to_redis(artifact, users, store, as_json=to == "json")
        click.echo(f"{written} users of model {artifact.version} written to Redis")


if __name__ == "__main__":
    main()
