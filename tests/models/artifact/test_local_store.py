"""A directory as a store: what is replaced is what was meant, and what a crash cut off is taken up again."""

from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit

import pytest

from models.artifact import local_store
from models.artifact.local_store import LocalStore
from models.artifact.publications import OvertakenError, Publication
from models.errors import ArtifactError, UnreachableError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    for version in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"):
        (tmp_path / version).mkdir()
    return LocalStore(tmp_path)


def test_publication_replaces_only_what_it_says(store: LocalStore) -> None:
    first = Publication("aaaaaaaaaaaa", store.publish("aaaaaaaaaaaa"))
    second = Publication("bbbbbbbbbbbb", store.publish("bbbbbbbbbbbb", instead_of=first))
    assert store.current() == second
    with pytest.raises(OvertakenError, match=r"bbbbbbbbbbbb, publication \d+ active, and not aaaaaaaaaaaa"):
        store.publish("cccccccccccc", instead_of=first)
    again = Publication("aaaaaaaaaaaa", store.publish("aaaaaaaaaaaa"))
    with pytest.raises(OvertakenError):  # the same version, but published anew
        store.publish("cccccccccccc", instead_of=first)
    assert store.current() == again


def test_publication_that_was_cut_off_keeps_its_number(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish("aaaaaaaaaaaa")
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "_link", lambda *_: None)
        cut_off = store.publish("bbbbbbbbbbbb")
    assert store.current().version == "aaaaaaaaaaaa"
    assert store.publish("bbbbbbbbbbbb") == cut_off
    assert store.publish("bbbbbbbbbbbb") > cut_off  # once more is another publication
    lines = (store.where / local_store.PUBLICATIONS).read_text().splitlines()
    assert len(lines) == 3


def test_publication_on_a_full_disk_leaves_the_list_as_it_was(store: LocalStore) -> None:
    number = store.publish("aaaaaaaaaaaa")
    size, limits = (store.where / local_store.PUBLICATIONS).stat().st_size, getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (size + 40, limits[1]))  # as if there were room for so many bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            store.publish("bbbbbbbbbbbb")
    finally:
        setrlimit(RLIMIT_FSIZE, limits)
    assert store.current() == Publication("aaaaaaaaaaaa", number)
    assert store.publish("bbbbbbbbbbbb") > number
    assert len((store.where / local_store.PUBLICATIONS).read_text().splitlines()) == 2


def test_list_of_publications_that_cannot_be_read_for_now_is_no_damage(store: LocalStore) -> None:
    store.publish("aaaaaaaaaaaa")
    listed = store.where / local_store.PUBLICATIONS
    content = listed.read_bytes()
    listed.unlink()
    listed.mkdir()  # as a share that answers for the link, and not for the file
    with pytest.raises(UnreachableError, match=r"publications.jsonl cannot be read \(Is a directory\)"):
        store.current()
    listed.rmdir()
    listed.write_bytes(content + b"\xff\n")
    with pytest.raises(ArtifactError, match=r"publications.jsonl is damaged \(.*can't decode"):
        store.current()
    listed.write_bytes(content)
    assert store.current().version == "aaaaaaaaaaaa"
