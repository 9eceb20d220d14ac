"""Objects under the URL of a bucket, through obstore; every failure is one line, and none repeats a secret.

Credentials and endpoints come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS; or what the cloud gives a machine or a pod. Needs no torch.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ArtifactError, SettingsError, UnreachableError
from models.location import BucketUrl

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Store

#: Variables that name an endpoint other than the cloud's own.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

#: Limits of one request for a small object, and of a large one, which may take as long as bytes keep coming.
SMALL_LIMITS = {"connect_timeout": "2s", "timeout": "5s"}
LARGE_LIMITS = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "12h"}
#: Tries after the first one, and how long they may take altogether (s).
SMALL_RETRIES, LARGE_RETRIES = (1, 6), (5, 60)

#: Bytes that are hashed and written at a time.
CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Tag:
    """Which state of an object was read: what a conditional request compares (S3: e_tag, GCS: generation)."""

    e_tag: str | None
    generation: str | None


@dataclass(frozen=True, slots=True)
class Content:
    """An object's bytes, and the state that they are of."""

    data: bytes
    tag: Tag


class Bucket:
    """The objects under a URL; used from several threads.

    Every call raises UnreachableError where the bucket does not answer or refuses.
    """

    def __init__(self, url: BucketUrl) -> None:
        self.url = url
        with self._one_line(url):
            self._small = _client(url, SMALL_LIMITS, *SMALL_RETRIES)
            self._large = _client(url, LARGE_LIMITS, *LARGE_RETRIES)

    def read(self, name: str) -> Content | None:
        """Return a small object; None where there is none."""
        return self._read(name, {})

    def read_unless(self, name: str, seen: Content) -> Content | None:
        """Return a small object: the one that was seen where it has not changed since, without its bytes."""
        from obstore.exceptions import NotModifiedError

        try:
            return self._read(name, {"if_none_match": seen.tag.e_tag} if seen.tag.e_tag else {})
        except NotModifiedError:
            return seen

    def _read(self, name: str, options: Any) -> Content | None:
        import obstore

        with self._one_line(self.url / name):
            try:
                found = obstore.get(self._small, name, options=options)
                meta = found.meta
                return Content(bytes(found.bytes()), Tag(meta["e_tag"], meta["version"]))
            except FileNotFoundError:
                return None

    def size(self, name: str) -> int | None:
        """Return an object's size (bytes); None where there is none."""
        import obstore

        with self._one_line(self.url / name):
            try:
                return obstore.head(self._small, name)["size"]
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes, seen: Tag | None) -> bool:
        """Write an object where it still is what was seen, or is not there where nothing was seen.

        Return False where somebody else was faster: then nothing has been written.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._one_line(self.url / name):
            try:
                obstore.put(self._small, name, data, mode=_mode(seen))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return False  # not found: what was seen has been deleted since, or there is no such bucket
        return True

    def upload(self, name: str, content: Path | bytes) -> None:
        """Write an object: whole or not at all."""
        import obstore

        with self._one_line(self.url / name):
            try:
                obstore.put(self._large, name, content)
            except FileNotFoundError as error:
                raise UnreachableError(f"{self.url / name} cannot be written ({reason(error)})") from error

    def download(self, name: str, file: Path) -> str:
        """Write an object into a file and return its SHA-256. Raises ArtifactError where there is none."""
        import obstore

        digest = hashlib.sha256()
        with self._one_line(self.url / name), file.open("wb") as output:
            try:
                for chunk in obstore.get(self._large, name).stream(min_chunk_size=CHUNK_BYTES):
                    digest.update(chunk)
                    output.write(chunk)
            except FileNotFoundError as error:
                raise ArtifactError(
                    f"{self.url / name} is missing: publish the artifact again, from where it was made"
                ) from error
        return digest.hexdigest()

    @contextmanager
    def _one_line(self, what: BucketUrl) -> Iterator[None]:
        """Turn what obstore raises into one line; what the caller handles itself passes."""
        from obstore import exceptions

        try:
            yield
        except (
            exceptions.NotModifiedError,
            exceptions.AlreadyExistsError,
            exceptions.PreconditionError,
        ):
            raise
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise UnreachableError(
                f"{what} is refused ({reason(error)}): see the credentials in the environment, and the "
                "bucket's policy"
            ) from error
        except exceptions.BaseError as error:
            raise UnreachableError(
                f"{what} cannot be reached ({reason(error)}): {_advice(self.url)}"
            ) from error


def _client(url: BucketUrl, limits: dict[str, str], tries: int, tries_s: int) -> "S3Store | GCSStore":
    """Return obstore's client; importing it here costs hosts with local artifacts nothing."""
    from obstore.store import GCSStore, S3Store

    is_plain = url.scheme == "s3" and _endpoint().startswith("http://")
    options: Any = {**limits, "allow_http": is_plain}
    retry: Any = {"max_retries": tries, "retry_timeout": timedelta(seconds=tries_s)}
    kind = S3Store if url.scheme == "s3" else GCSStore
    return kind(url.bucket, prefix=url.key or None, client_options=options, retry_config=retry)


def _endpoint() -> str:
    """Return the endpoint that the environment names, empty where it is the cloud's own."""
    name, endpoint = next(((name, os.environ[name]) for name in ENDPOINTS if os.environ.get(name)), ("", ""))
    if endpoint and not re.match("https?://.", endpoint):
        raise SettingsError(f"{name} must be like https://server:port, with its scheme")
    return endpoint


def _advice(url: BucketUrl) -> str:
    """Return what to look at where a bucket cannot be reached; an endpoint without what may be a secret."""
    if url.scheme != "s3":
        return "see the network, and GOOGLE_APPLICATION_CREDENTIALS"
    server = re.sub("//[^/]*@", "//", _endpoint())
    where = f"AWS_ENDPOINT_URL is {server}" if server else "see the network, and AWS_ENDPOINT_URL"
    return where if os.environ.get("AWS_ACCESS_KEY_ID") else f"{where}; AWS_ACCESS_KEY_ID is not set"


def _mode(seen: Tag | None) -> Any:
    if seen is None:
        return "create"
    both = {"e_tag": seen.e_tag, "version": seen.generation}
    return {name: value for name, value in both.items() if value is not None}


def reason(error: BaseException) -> str:
    """Return why, in a few words: what the server says, or the client; neither request nor signature."""
    text = str(error).partition("Debug source")[0]
    said = [re.search(rf"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message")]
    words = ": ".join(each[1] for each in said if each)
    if not words:
        words = re.sub(r"^.*(?:HTTP error|Server returned non-2xx status code): ", "", text, flags=re.DOTALL)
    return " ".join(words.split()).rstrip(".: ")[:200]
