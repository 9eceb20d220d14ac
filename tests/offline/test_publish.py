"""A rollback is not kept waiting."""

import subprocess
import sys


def test_rollback_imports_neither_torch_nor_numpy() -> None:
    code = "import sys; sys.modules.update(torch=None, numpy=None)\nimport offline.publish"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
