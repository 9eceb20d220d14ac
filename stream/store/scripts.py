"""The scripts that Redis runs: each a file of `lua/`, whose head says its keys, arguments and answer."""

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files

#: The line by which one file takes in another, which several scripts share.
_INCLUDE = re.compile(r"^-- include (\w+\.lua)$", re.MULTILINE)


@cache
def script(name: str) -> str:
    """Return the text of the script `lua/{name}.lua`, with the files that it includes."""
    return _INCLUDE.sub(lambda found: _text(found[1]), _text(f"{name}.lua"))


@cache
def digest(name: str) -> str:
    """Return by which digest EVALSHA knows the script."""
    return sha1(script(name).encode()).hexdigest()


def _text(file_name: str) -> str:
    return files("stream.store").joinpath("lua", file_name).read_text(encoding="utf-8")
