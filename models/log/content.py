"""What a file of a log holds, known by its first bytes: Parquet, or CSV as it is or compressed."""

import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from models.errors import DataError
from models.log.files import UNREADABLE, LogFile

PARQUET = b"PAR1"
PARQUET_NAMES = (".parquet", ".pq")

#: What reading a damaged file may raise.
DAMAGED = (
    *UNREADABLE,
    EOFError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)

#: Bytes within which a text that is JSON shows it.
LOOK_BYTES = 1 << 10

#: What people try that is neither CSV nor Parquet, by first bytes.
OTHERS = {
    b"ORC": "ORC",
    b"ARROW1": "Arrow IPC (Feather)",
    b"Obj\x01": "Avro",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
}


def kind_of(file: LogFile) -> bytes:
    """Return the first bytes by which a file is known: PARQUET, one of COMPRESSED, else b"" for text.

    Raises DataError for a file of another kind that people keep logs in.
    """
    with file.open() as stream:
        first = stream.read(8)
    for start, name in OTHERS.items():
        if first.startswith(start):
            raise DataError(f"{file.name}: this is {name}; a log is CSV or Parquet: convert it")
    if file.path.endswith(PARQUET_NAMES) and not first.startswith(PARQUET):
        raise DataError(f"{file.name}: not a Parquet file, though named so: it begins with {first!r}")
    return next((start for start in (PARQUET, *COMPRESSED) if first.startswith(start)), b"")


def open_text(file: LogFile, stream: Any) -> Any:
    """Return a stream of the text in a file, whose bytes `stream` reads; DataError for a strange zip."""
    opened = COMPRESSED.get(kind_of(file))
    return stream if opened is None else opened(file, stream)


def is_json(file: LogFile) -> bool:
    """Return whether a file, which may be compressed, begins with a JSON object."""
    try:
        with file.open() as stream:
            return bool(
                open_text(file, stream).read(LOOK_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
            )
    except DAMAGED:  # which whoever reads it will say
        return False


def _by_arrow(codec: str) -> Callable[[LogFile, Any], Any]:
    return lambda _, stream: pa.CompressedInputStream(stream, codec)


def _unxz(_: LogFile, stream: Any) -> Any:
    return lzma.LZMAFile(stream)


def _unzip(file: LogFile, stream: Any) -> Any:
    """Return the one file in a zip, beside folders and what macOS puts there."""
    archive = zipfile.ZipFile(stream)
    names = [
        name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")
    ]
    if len(names) != 1:
        raise DataError(
            f"{file.name}: the zip holds {len(names)} files ({', '.join(names[:3])}) and a log's "
            "holds one: unpack it, and give the folder"
        )
    return archive.open(names[0])


#: How the text is read of files that begin so.
COMPRESSED: Mapping[bytes, Callable[[LogFile, Any], Any]] = {
    b"\x1f\x8b": _by_arrow("gzip"),
    b"BZh": _by_arrow("bz2"),
    b"\x28\xb5\x2f\xfd": _by_arrow("zstd"),
    b"\x04\x22\x4d\x18": _by_arrow("lz4"),
    b"\xfd7zXZ\x00": _unxz,
    b"PK\x03\x04": _unzip,
    b"PK\x05\x06": _unzip,
}
