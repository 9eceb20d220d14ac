"""Which files a log is made of: of a path, a folder, a glob, an object store's URL, or several of them."""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs

from models.errors import DataError

LogPath = str | Path

#: What an object store or a disk may raise, beside what Arrow makes of it.
UNREADABLE = (OSError, pa.ArrowException)
#: Files and folders that engines keep for themselves begin with one of these.
HIDDEN = (".", "_")
#: What Hive writes for a partition without a value.
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
KNOWN_URLS = "use s3://, gs://, abfs://, hdfs:// or file://, and percent-encode what is special in a key"
#: How long an object store is tried where it does not answer (s); Google's client would try for 15 minutes.
RETRY_S = 10


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of a log, on a disk or in an object store."""

    #: As messages name it: the path, or the URL without its options.
    name: str
    path: str
    size: int
    filesystem: Any = field(repr=False, compare=False)
    #: When it was written last (ns since 1970).
    written_ns: int = 0

    @property
    def is_local(self) -> bool:
        """Return whether its content may be read twice at little cost."""
        return isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    @property
    def partitions(self) -> Mapping[str, str]:
        """Return the columns that stand in the path instead of the file, as `day=2014-11-18/`, by name."""
        pairs = (part.split("=", 1) for part in self.path.split("/")[:-1] if "=" in part)
        return {unquote(name): "" if value == NO_PARTITION else unquote(value) for name, value in pairs}

    def open(self) -> Any:
        """Return the file opened for reading, with `seek`; DataError where it cannot be."""
        try:
            return self.filesystem.open_input_file(self.path)
        except UNREADABLE as error:
            raise unreadable(self.name, error) from error


def name_of(paths: LogPath | Sequence[LogPath]) -> str:
    """Return what a log is called: its paths as they were given, but for the secrets in a URL."""
    given = [paths] if isinstance(paths, LogPath) else paths
    return ", ".join(_without_secrets(str(path)) for path in given)


def find_files(paths: LogPath | Sequence[LogPath]) -> list[LogFile]:
    """Return the files of all paths, those of one by name, each once; DataError where there are none."""
    given = [paths] if isinstance(paths, LogPath) else paths
    found = [file for path in given for file in _files_of(str(path))]
    first: dict[tuple[str, str], LogFile] = {}
    for file in found:
        first.setdefault((file.filesystem.type_name, file.path), file)
    return list(first.values())


def unreadable(name: str, error: Exception) -> DataError:
    """Return what to tell of a file or place that cannot be read."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300]
    return DataError(f"{name}: cannot be read ({reason})")


def _without_secrets(path: str) -> str:
    """Return a path as it is, a URL without what may hold keys: the user in it, and options of the store."""
    scheme, is_url, rest = path.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}" if is_url else path


def _files_of(path: str) -> list[LogFile]:
    name = _without_secrets(path)
    if not path.strip():
        raise DataError("the path of the log is empty; give a CSV or Parquet file, a folder or a glob")
    try:
        found = list(_remote_files(path, name) if "://" in path else _local_files(path))
    except UNREADABLE as error:
        if "URI" in str(error):  # which stands there, keys and all
            raise DataError(f"{name}: not a URL that can be read; {KNOWN_URLS}") from None
        raise unreadable(name, error) from error
    if not found:
        raise DataError(f"{name}: no file of a log is there; give a CSV or Parquet file, a folder or a glob")
    return found


def _local_files(path: str) -> Iterator[LogFile]:
    filesystem = pyarrow.fs.LocalFileSystem()
    matches = [path] if Path(path).exists() else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
    if "**" in path:
        any_folder = len(path.partition("**")[0])
        matches = [match for match in matches if not _is_hidden(match[any_folder:])]
    if not matches and not glob.has_magic(path):
        raise DataError(f"{path}: no such file; `python -m offline.sample --out {path}` makes one")
    for match in matches:
        for info in _below(filesystem, str(Path(match).absolute()), match):
            inside = info.path[len(str(Path(match).absolute())) :]
            yield _log_file(filesystem, info, match.rstrip("/") + inside)


def _remote_files(url: str, name: str) -> Iterator[LogFile]:
    """Yield the files of a URL such as s3://bucket/path; what stands behind `?` are options of the store."""
    place, _, options = url.partition("?")
    scheme, _, inside = place.partition("://")
    parts = inside.rstrip("/").split("/")
    fixed = next((n for n, part in enumerate(parts) if re.search(r"[*\[]", part)), len(parts))
    if scheme in ("gs", "gcs") and "retry_limit_seconds" not in options:
        options = "&".join(filter(None, (options, f"retry_limit_seconds={RETRY_S}")))
    base = f"{scheme}://{'/'.join(parts[:fixed])}"
    filesystem, root = pyarrow.fs.FileSystem.from_uri(f"{base}?{options}" if options else base)
    for info in _below(filesystem, root, name):
        below = info.path[len(root) :].strip("/")
        if _matches(below.split("/"), parts[fixed:]):
            fixed_name = "/".join(name.rstrip("/").split("/")[: fixed + 2])
            yield _log_file(filesystem, info, f"{fixed_name}/{below}".rstrip("/"))


def _below(filesystem: Any, path: str, name: str) -> list[Any]:
    """Return a file, or the files of a folder and its folders, by name, without those that are hidden."""
    info = filesystem.get_file_info(path)
    if info.type == pyarrow.fs.FileType.NotFound:
        raise DataError(f"{name}: no such file or folder")
    if info.type != pyarrow.fs.FileType.Directory:
        return [info]
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    files = [each for each in found if each.type == pyarrow.fs.FileType.File]
    seen = (each for each in files if not _is_hidden(each.path[len(path) :]))
    return sorted(seen, key=lambda each: each.path)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(HIDDEN) for part in path.split("/"))


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether a path, or a folder above it, is meant by a glob, both by parts; `**` is any folders."""
    if not patterns:
        return True
    if patterns[0] == "**":
        return any(_matches(parts[skipped:], patterns[1:]) for skipped in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _log_file(filesystem: Any, info: Any, name: str) -> LogFile:
    if info.type != pyarrow.fs.FileType.File:
        raise DataError(f"{name}: neither a file nor a folder; give a CSV or Parquet file")
    return LogFile(name, info.path, info.size or 0, filesystem, info.mtime_ns or 0)
