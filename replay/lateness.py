"""How late records were handed over, as a histogram whose size does not depend on how many there were."""

import numpy as np
from numpy.typing import NDArray

#: Edges of the bins, each 5 % above the one before: 10 us to a day (s).
_EDGES_S = 1e-5 * 1.05 ** np.arange(472)


class Lateness:
    """Seconds by which records were late; quantiles are exact to 5 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_EDGES_S) + 1, dtype=np.int64)
        self.max_s = 0.0

    def add(self, late_s: NDArray[np.float64]) -> None:
        """Take in how late some records (R,) were; what was early was not late."""
        if len(late_s):
            self._counts += np.bincount(np.searchsorted(_EDGES_S, late_s), minlength=len(self._counts))
            self.max_s = max(self.max_s, float(late_s.max()))

    def quantile_s(self, share: float) -> float:
        """Return what this share of records was not later than; 0.0 where there are none."""
        if not (total := self._counts.sum()):
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), share * total))
        return float(min(_EDGES_S[min(place, len(_EDGES_S) - 1)], self.max_s))
