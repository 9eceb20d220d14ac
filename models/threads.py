"""How many threads a product of matrices takes: NumPy's, and those of whatever else encodes."""

import sys

from threadpoolctl import threadpool_limits

_limits: list[int] = []


def limit_threads(count: int) -> None:
    """Have products take so many threads at most, also PyTorch's where it is loaded."""
    _limits[:] = [count]
    threadpool_limits(count, user_api="blas")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def thread_limit() -> int:
    """Return the limit that was set, 0 where there is none and each library takes what it thinks best."""
    return _limits[0] if _limits else 0
