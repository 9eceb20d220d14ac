"""Files -> a version in a store, whole or not at all; needs no torch."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from models.artifact.files import CHECKSUMS, read_json, to_json, version_of
from models.artifact.stores import open_store
from models.artifact.version_cache import PARTIAL, VersionCache, place
from models.location import BucketUrl, Location


def write_version(store: Location, contents: Mapping[str, bytes]) -> str:
    """Write an artifact's files into `store`, under their version, and return that; equal ones once.

    A crash never leaves half an artifact: the files are written beside it and renamed; into a bucket they are
    copied from this host's cache, the one that makes it an artifact last.
    """
    home = VersionCache().home if isinstance(store, BucketUrl) else store
    home.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(prefix=PARTIAL, dir=home))
    try:
        _write(partial, contents)
        version = version_of(read_json(partial / CHECKSUMS))
        place(partial, home / version)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    open_store(store).add(home / version, version)
    if isinstance(store, BucketUrl):
        VersionCache(home).prune()
    return version


def _write(directory: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (directory / CHECKSUMS).write_bytes(to_json(checksums))
