"""How a replay is getting on, for people: a bar on a terminal, a line now and then elsewhere."""

import logging
from types import TracebackType

from tqdm import tqdm

from replay.report import Report

logger = logging.getLogger(__name__)

#: How often what was measured is shown on a terminal, and logged elsewhere (s).
SHOW_S, LOG_S = 1.0, 10.0


class Progress:
    """Shows how many records of all were handed over, the pace that was kept, and how late they were."""

    def __init__(self, report: Report, total: int | None) -> None:
        self._report, self._total = report, total
        self._next_s = 0.0

    def __enter__(self) -> "Progress":
        self._bar = tqdm(
            total=self._total, initial=self._done, unit="event", unit_scale=True, desc="replay", disable=None
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    @property
    def _done(self) -> int:
        return self._report.resumed_at + self._report.records

    def show(self, now_s: float) -> None:
        """Show how far it is, now and then."""
        self._bar.update(self._done - self._bar.n)
        if now_s < self._next_s:
            return
        if not self._bar.disable:
            self._bar.set_postfix_str(self._report.progress())
        elif self._next_s:
            of_all = f" of {self._total:,}" if self._total else ""
            logger.info("%s%s events, %s", f"{self._done:,}", of_all, self._report.progress())
        self._next_s = now_s + (LOG_S if self._bar.disable else SHOW_S)
