"""Where something is kept: paths and URLs."""

from pathlib import Path

import pytest

from models.errors import SettingsError
from models.location import BucketUrl, location


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("artifacts/current", Path("artifacts/current")),
        ("a:b/c", Path("a:b/c")),
        ("s3", Path("s3")),
        ("file:///mnt/models%20new", Path("/mnt/models new")),
        ("file:///home/me@shop/a", Path("/home/me@shop/a")),
        ("file://localhost/mnt", Path("/mnt")),
        ("s3://shop", BucketUrl("s3", "shop")),
        ("s3://shop/models//artifacts/", BucketUrl("s3", "shop", ("models", "artifacts"))),
        ("gs://shop/a b%20c", BucketUrl("gs", "shop", ("a b%20c",))),
    ],
)
def test_text_means_a_path_or_a_bucket(text: str, expected: Path | BucketUrl) -> None:
    assert location(text) == expected


def test_url_that_went_through_a_path_still_means_the_bucket() -> None:
    assert location(Path("s3://shop/artifacts")) == location("s3://shop/artifacts")
    assert location(Path("file:///mnt/a")) == Path("/mnt/a")


def test_url_is_joined_and_named_as_a_path_is() -> None:
    store = location("s3://shop/artifacts")
    assert isinstance(store, BucketUrl)
    assert str(store / "current") == "s3://shop/artifacts/current"
    assert ((store / "current").name, (store / "current").parent, store.key) == (
        "current",
        store,
        "artifacts",
    )
    assert (store.parent.name, store.parent.parent) == ("", store.parent)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s3://",
        "s3:///",
        "http://shop/a",
        "s3://shop/../other",
        "file://shop/a",
        "hdfs://a/b",
        "s3://my shop/a",
    ],
)
def test_what_is_no_place_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(SettingsError, match="file:///path"):
        location(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://KEY:hush@shop/artifacts",
        "s3://KEY:hu/sh@shop/artifacts",
        "https://me:hush@shop/artifacts",
        "s3://shop/artifacts?X-Amz-Signature=hush",
        "gs://shop/artifacts#hush",
    ],
)
def test_secret_in_a_url_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match="must hold no credentials") as refused:
        location(text)
    assert "hush" not in str(refused.value)
    assert "hu/sh" not in str(refused.value)
