"""A file is known by its content: CSV in any common compression; what is damaged in one line."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from models.errors import DataError
from models.log.behaviour_log import read_behaviour_log

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"
CSV = (HEADER + "".join(f"u{number},i{number},1,,c,2014-11-18 09\n" for number in range(2000))).encode()


def zipped(*names: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, b"" if name.endswith("/") else CSV)
    return archive.getvalue()


def framed(codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(CSV)
    return bytes(sink.getvalue().to_pybytes())


COMPRESSED = {
    "gzip": gzip.compress(CSV),
    "gzip in parts": gzip.compress(CSV[:1000]) + gzip.compress(CSV[1000:]),
    "bz2": bz2.compress(CSV),
    "xz": lzma.compress(CSV),
    "zstd": framed("zstd"),
    "lz4": framed("lz4"),
    "zip": zipped("log.csv"),
    "zip of macOS": zipped("log/", "log/log.csv", "__MACOSX/log/._log.csv"),
}


@pytest.mark.parametrize("name", ["log", "log.csv", "log.csv.gz"])
@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_file_is_read_whatever_its_name(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "plain.csv").write_bytes(CSV)
    (tmp_path / name).write_bytes(COMPRESSED[kind])
    log = read_behaviour_log(tmp_path / name)
    assert log.fingerprint == read_behaviour_log(tmp_path / "plain.csv").fingerprint
    assert log.line.tolist() == list(range(2, 2002))


def test_compressed_file_is_read_line_by_line_too(tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_bytes(gzip.compress(CSV + b"\n" + CSV.split(b"\n")[1]))
    assert read_behaviour_log(tmp_path / "log.gz").line.tolist()[-1] == 2003


@pytest.mark.parametrize("kind", [kind for kind in COMPRESSED if kind != "gzip in parts"])
def test_cut_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "log").write_bytes(COMPRESSED[kind][: len(COMPRESSED[kind]) * 2 // 3])
    with pytest.raises(DataError, match=r"log: cannot be read \(") as caught:
        read_behaviour_log(tmp_path / "log")
    assert "\n" not in str(caught.value)


STRANGE = {
    "two in a zip": (zipped("a.csv", "b.csv"), r"the zip holds 2 files \(a.csv, b.csv\)"),
    "none in a zip": (zipped("folder/"), r"the zip holds 0 files"),
    "Parquet in a zip": (gzip.compress(b"PAR1 and so on"), "this is Parquet, compressed as a whole"),
    "Avro": (b"Obj\x01 and so on", "this is Avro; a log is CSV or Parquet"),
    "ORC": (b"ORC and so on", "this is ORC"),
    "Feather": (b"ARROW1 and so on", "this is Arrow IPC"),
    "nothing in gzip": (gzip.compress(b""), "the file is empty"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_file_that_is_no_log_is_refused(tmp_path: Path, kind: str) -> None:
    content, message = STRANGE[kind]
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(DataError, match=f"log: {message}"):
        read_behaviour_log(tmp_path / "log")


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped("log.csv"))
    for place in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1  # the flag that says so
    (tmp_path / "log.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read \(.*encrypted"):
        read_behaviour_log(tmp_path / "log.zip")
