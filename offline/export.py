"""`python -m offline.export`: every user of a log, as of their last event, into a store or files."""

import os
from pathlib import Path

import click

from models.artifact.artifact import load
from models.command import log_to_stderr
from models.errors import SettingsError
from models.location import Location
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.exporting.parquet import export_to_parquet
from offline.exporting.redis import export_to_redis
from offline.exporting.users import encode_log
from offline.options import artifact_option, data_path_option, parse_time
from stream.command import ServerCommand
from stream.encoding.live_models import store_settings
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.vector_store import Store


@click.command(cls=ServerCommand)
@artifact_option
@data_path_option
@log_format_option
@click.option("--to", type=click.Choice(["redis", "json", "parquet"]), default="redis", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for --to parquet.")
@click.option("--until", help="Only events before this time, 'YYYY-MM-DD HH[:MM[:SS]]' or epoch ms.")
def main(
    artifact_path: Location,
    data_path: tuple[str, ...],
    log_format: str,
    to: str,
    out: Path | None,
    until: str | None,
) -> None:
    """Encode every user of a behaviour log as of their last event, and write the vectors out.

    parquet: users.parquet (user_id, vec, long, short, ts) and items.parquet (item_id, vec) under --out; the
    score of an item for a user is the dot product of the two vecs. redis: the HASH that the worker writes,
    but for the history. json: a JSON list under the raw user id. Both read the worker's settings (REDIS_*,
    TWINTIDE_*), such as TWINTIDE_KEY_PREFIX.

    \b
    Example:
      python -m offline.export --artifact artifacts --data-path data/behaviour.csv --to parquet --out vectors
    """
    log_to_stderr()
    until_ms = None if until is None else parse_time("--until", until)
    if to == "parquet" and out is None:
        raise SettingsError("--to parquet writes files: say where with --out DIR")
    if to != "parquet" and out is not None:
        raise SettingsError(f"--out is for --to parquet, and --to {to} writes into Redis: leave one out")
    settings = None if to == "parquet" else Settings.from_environment(os.environ)
    artifact = load(artifact_path)
    users = encode_log(artifact, read_cached(data_path, read_log_format(log_format)), until_ms)
    if out is not None:
        for path in export_to_parquet(artifact, users, out):
            click.echo(path)
    elif settings is not None:
        store = Store(redis_client(settings.redis), store_settings(settings))
        written = export_to_redis(artifact, users, store, as_json=to == "json")
        click.echo(f"{written} users of model {artifact.version} written to Redis")


if __name__ == "__main__":
    main()
