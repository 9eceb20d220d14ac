"""`python -m offline.publish`: have the workers serve an artifact, or the one before, without a restart."""

import os

import click

from models.command import LOCATION
from models.errors import SettingsError
from models.location import Location
from offline.publishing.publication import followed_store, publish_artifact, rotate
from offline.publishing.rollout import roll_back, wait_until_served
from stream.command import ServerCommand
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.model_registry import ModelRegistry


@click.command(cls=ServerCommand)
@click.argument("artifact", type=LOCATION, required=False)
@click.option("--rollback", is_flag=True, help="Go back to the model before, at once.")
@click.option(
    "--rotate", "rotates", is_flag=True, help="Turn its vectors onto those of the model that serves, first."
)
@click.option("--wait", is_flag=True, help="Return when readers get the model.")
@click.option("--timeout-s", default=600.0, show_default=True, help="How long to wait.")
def main(artifact: Location | None, rollback: bool, rotates: bool, wait: bool, timeout_s: float) -> None:
    """Have the running workers serve ARTIFACT, a version of their artifact store, or another artifact.

    ARTIFACT is a path or a URL (s3://, gs://, file://); where it is not in the workers' store yet, it is put
    there first.

    The workers notice within two seconds, load it beside the model that serves, check its golden users, and
    write all users with it; then readers get it, all at once. The one before is kept, and kept fresh, for
    TWINTIDE_KEEP_PREVIOUS_S: so long --rollback takes no time.

    With --rotate, what is published is a copy whose users and items are all turned alike, so that the items
    lie as near to where they are now as they can: for consumers that keep vectors and compare old ones with
    new ones. No ranking changes by it.

    Reads the worker's settings (TWINTIDE_ARTIFACT, REDIS_*). Exit 1 where it is refused, or --wait in vain.

    \b
    Example:
      python -m offline.publish artifacts/0f3a9c2b7d11 --wait
      python -m offline.publish --rollback
    """
    if rollback == (artifact is not None) or (rollback and rotates):
        raise SettingsError("give either ARTIFACT, with or without --rotate, or --rollback")
    settings = Settings.from_environment(os.environ)
    store = followed_store(settings.artifact)
    registry = ModelRegistry(redis_client(settings.redis), settings.key_prefix)
    if artifact is None:
        models = roll_back(registry, store)
        click.echo(f"rolled back: readers get model {models.serving.version}")
        return
    registry.forget_refusal()
    if rotates:
        rotated = rotate(artifact, store, registry)
        click.echo(rotated)
        artifact = rotated.path
    version, number = publish_artifact(artifact, store)
    click.echo(f"published: model={version} publication={number}")
    if wait:
        waited_s = wait_until_served(registry, version, timeout_s)
        click.echo(f"served: readers get model {version} after {waited_s:.1f} s")


if __name__ == "__main__":
    main()
