"""The text of a .proto file, or the descriptor that some registries give instead, as a pool of messages."""

import base64
import binascii
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import DecodeError

#: The name that a schema gets, which has none in a registry.
FILE_NAME = "registered.proto"
#: How long protoc has for a file (s).
PROTOC_TIMEOUT_S = 60.0


def descriptor_pool(schema: str, references: Mapping[str, str]) -> tuple[DescriptorPool, str]:
    """Return a pool with a schema's file, and its name; references: files by the names it imports them by.

    Raises ValueError where any is no such file.
    """
    described = {name: _described(name, text) for name, text in {**references, FILE_NAME: schema}.items()}
    if all(described.values()):
        files = [each for each in described.values() if each]
    elif any(described.values()):
        raise ValueError("some of its files are text, and others are descriptors")
    else:
        files = _compiled(schema, references)
    pool = DescriptorPool()
    try:
        for each in files:
            _add(pool, each, {file.name for file in files})
    except TypeError as error:  # what the pool says of a file that makes no sense
        raise ValueError(str(error)) from error
    return pool, FILE_NAME


def message_names(file: Any) -> dict[tuple[int, ...], str]:
    """Return the full names of a file's messages by their places: the message's, and of those inside it."""
    names: dict[tuple[int, ...], str] = {}

    def add(messages: Any, above: tuple[int, ...], prefix: str) -> None:
        for place, message in enumerate(messages):
            names[(*above, place)] = name = f"{prefix}{message.name}"
            add(message.nested_type, (*above, place), f"{name}.")

    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    add(proto.message_type, (), f"{proto.package}." if proto.package else "")
    return names


def _described(name: str, text: str) -> FileDescriptorProto | None:
    """Return the file that a descriptor in base64 describes, None where it is none."""
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return None
    file.name = name
    return file


def _compiled(schema: str, references: Mapping[str, str]) -> list[FileDescriptorProto]:
    """Return the files of a schema's text, the needed before those that need them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "files", Path(scratch) / "set"
        for name, text in {**references, FILE_NAME: schema}.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"it imports {name!r}, which is no name of a file")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        includes = [f"-I{each}" for each in (folder, *_known_folders())]
        options = ["--include_imports", f"--descriptor_set_out={out}", FILE_NAME]
        command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROTOC_TIMEOUT_S)
        if done.returncode:
            raise ValueError(done.stderr.strip()[-300:] or "protoc does not take it")
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def _known_folders() -> list[Path]:
    """Return where the files lie that everybody may import: google/protobuf, google/type."""
    tools, types = find_spec("grpc_tools"), find_spec("google.type")
    folders = [Path(each) / "_proto" for each in (tools and tools.submodule_search_locations) or ()]
    return folders + [Path(each).parents[1] for each in (types and types.submodule_search_locations) or ()]


def _add(pool: DescriptorPool, file: FileDescriptorProto, given: set[str]) -> None:
    """Add a file, and before it what it imports and nobody gave: what this process knows."""
    for name in file.dependency:
        if name not in given and not _has(pool, name):
            known = FileDescriptorProto()
            try:
                Default().FindFileByName(name).CopyToProto(known)
            except KeyError as error:
                raise ValueError(f"it imports {name}, which is not there") from error
            _add(pool, known, given)
    if not _has(pool, file.name):
        pool.Add(file)


def _has(pool: DescriptorPool, name: str) -> bool:
    try:
        pool.FindFileByName(name)
    except KeyError:
        return False
    return True
