"""`python -m offline.publish`: have the workers serve an artifact, or the one before, without a restart."""

import os
import time
from pathlib import Path

import click

from models.artifact.files import CHECKSUMS
from models.artifact.publications import publish, store_of
from models.command import Command
from models.errors import ArtifactError, SettingsError, TwintideError
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.model_registry import ModelRegistry
from stream.store.registry_state import Models

#: Seconds between two looks at how far the workers are.
POLL_EVERY_S = 0.2


class NotServedError(TwintideError):
    """Readers do not get the published model."""


def followed_store(path: Path) -> Path:
    """Return the store that workers with this TWINTIDE_ARTIFACT follow. Raises SettingsError."""
    store = store_of(path)
    if store is not None:
        return store
    if (path / CHECKSUMS).exists():
        raise SettingsError(
            f"TWINTIDE_ARTIFACT is {path}, one artifact by itself: workers follow a store's `current`, such "
            "as artifacts/current"
        )
    raise SettingsError(
        f"TWINTIDE_ARTIFACT is {path}, where there is no store of artifacts: set it to the workers' store, "
        "or make one with `python -m offline.train`"
    )


def publish_artifact(path: Path, store: Path) -> tuple[str, int]:
    """Publish an artifact of a store after checking it; return its version and publication number."""
    # Loading needs PyTorch, which takes seconds to import: a rollback must not wait for that, nor for NumPy.
    from models.artifact.artifact import load
    from models.artifact.golden_users import check_golden

    artifact = load(path)
    if artifact.path.parent != store.resolve():
        raise ArtifactError(
            f"{artifact.path} is not in {store}, the workers' store: copy the directory there first"
        )
    check_golden(artifact)
    return artifact.version, publish(store, artifact.version)


def rotate(path: Path, store: Path, registry: ModelRegistry) -> Path:
    """Return where a copy of an artifact is whose vectors are turned onto those of the model that serves."""
    from models.artifact.artifact import load
    from models.artifact.rotation import common_items, mean_cosine, rotate_onto

    models = registry.read()
    if models is None:
        raise NotServedError("no model serves, onto whose vectors others could be turned: leave --rotate out")
    artifact, serving = load(path), load(store / models.serving.version)
    rotated = rotate_onto(artifact, serving)
    before, after = (mean_cosine(*common_items(each, serving)) for each in (artifact, rotated))
    click.echo(
        f"rotated: model={rotated.version} from={artifact.version} onto={serving.version} "
        f"mean_cosine={before:.3f} -> {after:.3f}"
    )
    return rotated.path


def roll_back(registry: ModelRegistry, store: Path) -> Models:
    """Publish the previous model again and have readers get it at once. Raises ModelChangeError."""
    models = registry.read()
    if models is None or models.previous is None:
        raise NotServedError(
            "no previous model is kept (TWINTIDE_KEEP_PREVIOUS_S): publish the artifact that you want"
        )
    publish(store, models.previous.version)
    return registry.rollback(models.serving.version)


def wait_until_served(registry: ModelRegistry, version: str, timeout_s: float) -> float:
    """Return how many seconds it took until readers got the version. Raises NotServedError."""
    from tqdm import tqdm

    started = time.monotonic()
    with tqdm(unit="user", desc="written", disable=None) as bar:
        while True:
            models, progress = registry.read(), registry.progress()
            if models and models.serving.version == version:
                return time.monotonic() - started
            if progress.refused == version:
                raise NotServedError(f"a worker refused model {version}: {progress.reason}")
            bar.total = sum(total for _, total in progress.covered.values()) or None
            bar.update(sum(done for done, _ in progress.covered.values()) - bar.n)
            if time.monotonic() - started > timeout_s:
                done = ", ".join(f"{key}: {of}/{all}" for key, (of, all) in sorted(progress.covered.items()))
                raise NotServedError(
                    f"readers do not get model {version} after {timeout_s:g} s (users written by partition: "
                    f"{done or 'none'}): see that workers of every partition run, and their logs"
                )
            time.sleep(POLL_EVERY_S)


@click.command(cls=Command)
@click.argument("artifact", type=click.Path(path_type=Path), required=False)
@click.option("--rollback", is_flag=True, help="Go back to the model before, at once.")
@click.option(
    "--rotate", "rotates", is_flag=True, help="Turn its vectors onto those of the model that serves, first."
)
@click.option("--wait", is_flag=True, help="Return when readers get the model.")
@click.option("--timeout-s", default=600.0, show_default=True, help="How long to wait.")
def main(artifact: Path | None, rollback: bool, rotates: bool, wait: bool, timeout_s: float) -> None:
    """Have the running workers serve ARTIFACT, a version's directory in their artifact store.

    The workers notice within a second, load it beside the model that serves, check its golden users, and
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
        artifact = rotate(artifact, store, registry)
    version, number = publish_artifact(artifact, store)
    click.echo(f"published: model={version} publication={number}")
    if wait:
        waited_s = wait_until_served(registry, version, timeout_s)
        click.echo(f"served: readers get model {version} after {waited_s:.1f} s")


if __name__ == "__main__":
    main()
