"""The fold in plain words runs where little is installed: in the environments of the benchmarks' peers."""

import subprocess
import sys

WITHOUT = """
import sys
for name in ("numpy", "numba", "torch", "pyarrow"):
    sys.modules[name] = None  # whoever imports it fails
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, WindowSettings, window_from_bytes, window_to_bytes
window = Window()
assert fold(window, IncomingEvent(0, 5, 1, "i", "c", 9), "topic", 0, WindowSettings()) == "applied"
assert window_from_bytes(window_to_bytes(window)) == window
"""


def test_reference_needs_neither_numpy_nor_a_compiler() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
