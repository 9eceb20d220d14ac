"""Where something is kept: a path of this host, or the URL of a bucket; both are joined and named alike."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from models.errors import SettingsError

#: Schemes of object stores; file:// is a path of this host.
BUCKET_SCHEMES = ("s3", "gs")
#: Names that a cloud gives to buckets, now or in former times.
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
WHAT_THERE_IS = "s3://bucket/prefix, gs://bucket/prefix, file:///path, or a path"


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """`s3://bucket/prefix` or `gs://bucket/prefix`, without credentials, and without a slash at its end."""

    scheme: str
    bucket: str
    #: Parts of the prefix, or of an object's name, without slashes.
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.scheme}://{'/'.join((self.bucket, *self.parts))}"

    def __truediv__(self, name: str) -> "BucketUrl":
        return BucketUrl(self.scheme, self.bucket, (*self.parts, name))

    @property
    def key(self) -> str:
        """Return the name within the bucket, empty for all of it."""
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        """Return the last part, empty for all of a bucket."""
        return self.parts[-1] if self.parts else ""

    @property
    def parent(self) -> "BucketUrl":
        """Return where this is in; a bucket is in itself."""
        return BucketUrl(self.scheme, self.bucket, self.parts[:-1])


Location: TypeAlias = Path | BucketUrl


def location(given: str | Path | BucketUrl) -> Location:
    """Return the place that a URL or a path means. Raises SettingsError, which never repeats a secret."""
    if isinstance(given, BucketUrl):
        return given
    text = str(given)
    if not text.strip():
        raise SettingsError(f"it is empty: give {WHAT_THERE_IS}")
    scheme, colon, rest = text.partition(":")
    is_url = "://" in text or (scheme in (*BUCKET_SCHEMES, "file") and rest.startswith("/"))
    if not colon or not is_url:
        return Path(given)
    if scheme == "file":
        return _path_of(text)
    _refuse_secrets(text)
    parts = tuple(part for part in rest.split("/") if part)  # Path("s3://a/b") is s3:/a/b, and means the same
    if scheme not in BUCKET_SCHEMES or not parts or not BUCKET_NAME.fullmatch(parts[0]):
        raise SettingsError(f"{text!r} is no place for artifacts: give {WHAT_THERE_IS}")
    if {".", ".."} & set(parts):
        raise SettingsError(f"{text!r} has a part that names no object (. or ..): give {WHAT_THERE_IS}")
    return BucketUrl(scheme, parts[0], parts[1:])


def _refuse_secrets(text: str) -> None:
    """Raise SettingsError where a URL holds what may be a secret: it would be printed and logged."""
    if re.search("[@?#]", text):
        raise SettingsError(
            f"an artifact's URL must hold no credentials and no query (no @, ? or #): give {WHAT_THERE_IS}; "
            "credentials come from the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def _path_of(text: str) -> Path:
    found = urlsplit(text)
    if found.netloc not in ("", "localhost") or not found.path:
        raise SettingsError(f"{text!r} is no path of this host: a file URL has three slashes, file:///path")
    return Path(unquote(found.path))
