"""Of which kind a store's models are: who follows it takes no other, so none is published in it."""

from models.artifact.files import CONFIG, read_json
from models.artifact.stores import find, is_there, store_of
from models.errors import ArtifactError, SettingsError
from models.location import Location
from models.model_files import RANKER


def check_kind(store: Location, *, is_ranker: bool) -> None:
    """Raise SettingsError where what is active in a store is of the other kind; who follows it would fail.

    is_ranker: whether what is to be published is a ranker, or else makes vectors.
    """
    if not is_there(store) or store_of(store) is None:
        return
    try:
        kind = read_json(find(store).directory / CONFIG).get("encoder")
    except ArtifactError:
        return  # it is damaged: nobody follows it until another is published
    if is_ranker and kind != RANKER:
        raise SettingsError(
            f"--save-dir {store} has a model active that makes vectors ({kind or 'dual-towers'}), which "
            "workers follow: give a ranker a directory of its own"
        )
    if not is_ranker and kind == RANKER:
        raise SettingsError(
            f"--save-dir {store} has a ranker active, which the serving API follows: give a model that makes "
            "vectors a directory of its own"
        )
