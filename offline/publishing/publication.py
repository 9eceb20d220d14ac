"""An artifact of the workers' store, checked and published, as it is or turned.

What needs PyTorch or NumPy is imported where it is used: PyTorch takes seconds to import, and a rollback
must not wait for it.
"""

from dataclasses import dataclass
from pathlib import Path

from models.artifact.stores import Store, is_artifact, open_store, store_of
from models.errors import SettingsError
from models.location import BucketUrl, Location
from offline.publishing.rollout import NotServedError
from stream.store.model_registry import ModelRegistry


@dataclass(frozen=True, slots=True)
class Rotated:
    """A turned copy of an artifact; the cosines are means over the items that it shares with `onto`."""

    path: Path
    version: str
    #: Versions: what was turned, and the serving model onto whose vectors.
    source: str
    onto: str
    cosine_before: float
    cosine_after: float

    def __str__(self) -> str:
        return (
            f"rotated: model={self.version} from={self.source} onto={self.onto} "
            f"mean_cosine={self.cosine_before:.3f} -> {self.cosine_after:.3f}"
        )


def followed_store(where: Location) -> Store:
    """Return the store that workers with this TWINTIDE_ARTIFACT follow, or will. Raises SettingsError."""
    store = store_of(where)
    if store is not None:
        return store
    is_one = is_artifact(where)
    if isinstance(where, BucketUrl) and not is_one:
        return open_store(where)  # a bucket needs no preparing: its first publication makes it a store
    if is_one:
        raise SettingsError(
            f"TWINTIDE_ARTIFACT is {where}, one artifact by itself: workers follow a store's `current`, such "
            "as artifacts/current"
        )
    raise SettingsError(
        f"TWINTIDE_ARTIFACT is {where}, where there is no store of artifacts: set it to the workers' store, "
        "or make one with `python -m offline.train`"
    )


def publish_artifact(where: Location, store: Store) -> tuple[str, int]:
    """Publish an artifact after checking it, and putting it into the store where it is not there yet.

    Return its version and publication number.
    """
    from models.artifact.artifact import load

    artifact = load(where)
    artifact.check_golden()
    store.add(artifact.path, artifact.version)
    return artifact.version, store.publish(artifact.version)


def rotate(where: Location, store: Store, registry: ModelRegistry) -> Rotated:
    """Write a copy of an artifact whose vectors are turned onto those of the model that serves.

    Raises NotServedError where none serves.
    """
    from models.artifact.artifact import load
    from models.artifact.rotation import common_items, mean_cosine, rotate_onto

    models = registry.read()
    if models is None:
        raise NotServedError("no model serves, onto whose vectors others could be turned: leave --rotate out")
    artifact, serving = load(where), load(store.directory(models.serving.version))
    rotated = rotate_onto(artifact, serving, store.where)
    before, after = (mean_cosine(*common_items(each, serving)) for each in (artifact, rotated))
    return Rotated(rotated.path, rotated.version, artifact.version, serving.version, before, after)
