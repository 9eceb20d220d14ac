"""What a worker does about memory that nobody uses."""

import subprocess
import sys
import weakref

import pytest

from stream.worker.memory import trim

SCRIPT = """
import re
import numba
from stream.worker.memory import COMPILER, MAPPED, let_go_of_compiler

def mapped_kb():
    parts = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", MAPPED.read_text())
    return sum(int(re.search(r"Rss: +(\\d+)", part)[1]) for part in parts if COMPILER in part)

numba.njit(lambda x: x + 1)(1)
before = mapped_kb()
let_go_of_compiler()
after = mapped_kb()
print(before, after, numba.njit(lambda x: x * 2.5)(3))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped")
def test_the_compiler_is_let_go_and_still_compiles() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before_kb, after_kb, product = map(float, found.stdout.split())
    assert after_kb < before_kb / 4
    assert product == 7.5


def test_garbage_that_refers_to_itself_does_not_lie_until_there_is_much_of_it() -> None:
    class Garbage:
        def __init__(self) -> None:
            self.itself = self

    garbage = weakref.ref(Garbage())
    trim()
    assert garbage() is None
