"""Where models come from: a store that is followed, or one artifact by itself; here or in a bucket."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact.artifact import Artifact, save
from models.artifact.settings import ArtifactSettings
from models.artifact.stores import open_store
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.location import BucketUrl, Location
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from stream.encoding.live_models import ArtifactSource


def make(store: Location, items: int) -> Artifact:
    vocabulary = Vocabulary([f"i{number}" for number in range(items)], [2] * items, ["c"])
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    return save(store, towers, vocabulary, settings, {}, {})


@pytest.fixture(params=["path", pytest.param("bucket", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "path":
        return tmp_path / "store"
    found: BucketUrl = request.getfixturevalue("bucket")
    return found


@pytest.mark.parametrize("name", [lambda store: store, lambda store: store / "current"])
def test_store_is_followed(store: Location, name: Callable[[Location], Location]) -> None:
    first, second = make(store, 10), make(store, 11)
    number = open_store(store).publish(first.version)
    source = ArtifactSource(name(store))
    assert (source.wanted().version, source.wanted().number) == (first.version, number)
    open_store(store).publish(second.version)
    assert source.wanted().version == second.version
    assert {source.load(each.version).version for each in (first, second)} == {first.version, second.version}


def test_one_artifact_is_wanted_for_ever_and_those_beside_it_can_be_loaded(store: Location) -> None:
    first, second = make(store, 10), make(store, 11)
    number = open_store(store).publish(first.version)
    source = ArtifactSource(store / first.version)
    open_store(store).publish(second.version)
    assert (source.wanted().version, source.wanted().number) == (first.version, number)
    assert source.load(second.version).version == second.version


def test_version_that_is_not_there_is_an_error(store: Location) -> None:
    first = make(store, 10)
    open_store(store).publish(first.version)
    for where in (store, store / first.version):
        with pytest.raises(ArtifactError, match=r"there is no artifact at .*/abcdefabcdef"):
            ArtifactSource(where).load("abcdefabcdef")
