"""How far the workers are with a published model, and the way back to the one before."""

import time

from tqdm import tqdm

from models.artifact.stores import Store
from models.errors import TwintideError
from stream.store.model_registry import ModelRegistry
from stream.store.registry_state import Models

#: How often the workers' progress is read (s).
PROGRESS_POLL_S = 0.2


class NotServedError(TwintideError):
    """Readers do not get the published model."""


def roll_back(registry: ModelRegistry, store: Store) -> Models:
    """Publish the previous model again and have readers get it at once.

    Raises NotServedError where no previous model is kept, ModelChangeError where that is not possible now.
    """
    models = registry.read()
    if models is None or models.previous is None:
        raise NotServedError(
            "no previous model is kept (TWINTIDE_KEEP_PREVIOUS_S): publish the artifact that you want"
        )
    store.publish(models.previous.version)
    return registry.rollback(models.serving.version)


def wait_until_served(registry: ModelRegistry, version: str, timeout_s: float) -> float:
    """Return how many seconds it took until readers got the version. Raises NotServedError."""
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
            time.sleep(PROGRESS_POLL_S)
