"""One replay, from the first record to the last acknowledgement, or until a signal."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from replay.acknowledged import Checkpoints
from replay.control import Pause, PausingClock, Stop
from replay.encoding import Encode
from replay.pacing import MAX_SLEEP_S, ahead, paced_slices
from replay.progress import Progress
from replay.publisher import ReplayProducer
from replay.records import Digest, Records
from replay.report import Report
from replay.schedule import Schedule

logger = logging.getLogger(__name__)

#: How often it is written what has arrived (s).
CHECKPOINT_S = 1.0


@dataclass(slots=True)
class Replay:
    """Publishes a schedule."""

    schedule: Schedule
    publisher: ReplayProducer
    stop: Stop
    pause: Pause = field(default_factory=Pause)
    #: None: nothing is written down, and nothing could be resumed.
    checkpoints: Checkpoints | None = None
    #: What makes other values of those of plain JSON, of which the digest is.
    encode: Encode | None = None
    clock: PausingClock = field(default_factory=PausingClock)
    report: Report = field(default_factory=Report)
    _next_checkpoint_s: float = 0.0

    def run(self, resume_at: int = 0) -> Report:
        """Publish all records but the first `resume_at`, or until a signal; return what was done.

        Raises UnreachableError where a record did not arrive.
        """
        report = self.report
        report.resumed_at = resume_at
        try:
            with Progress(report, self.schedule.records_about) as progress:
                for records, digest in self._left(resume_at):
                    self._publish(records, progress)
                    if self.stop.is_stopping():
                        break
                    report.digest = digest
                else:
                    report.is_whole = True
            self.publisher.finish()
        finally:
            self.clock.resume()
            report.paused_s = self.clock.paused_s
            report.seconds = self.clock() - report.first_due_s if report.records else 0.0
            report.acknowledged = self.publisher.acknowledged
            if self.checkpoints:
                self.checkpoints.write()
        return report

    def _left(self, resume_at: int) -> Iterator[tuple[Records, str]]:
        """Yield records behind the first `resume_at`, with the digest of all up to them; starts the clock."""
        is_running = False
        for records, digest in ahead(with_digests(self.schedule.blocks())):
            left = records.part(slice(resume_at, None))
            resume_at -= min(resume_at, len(records))
            if len(left) and not is_running:
                self.clock.begin(float(left.due_s[0]))
                is_running = True
            yield left, digest

    def _publish(self, records: Records, progress: Progress) -> None:
        times_ms = records.time_ms.tolist()
        for rows in paced_slices(records.due_s, self.clock, time.sleep):
            self._wait_out_pause()
            if self.stop.is_stopping():
                return
            before = self.publisher.sent
            values = records.values[rows]
            if self.encode:
                values = self.encode(values)
            self.publisher.send_columns(records.keys[rows], values, times_ms[rows])
            now_s, end = self.clock(), rows.start + self.publisher.sent - before
            self.report.add(records.part(slice(rows.start, end)), now_s)
            progress.show(now_s)
            self._checkpoint(now_s)

    def _wait_out_pause(self) -> None:
        if not self.pause.is_asked:
            return
        self.clock.pause()
        logger.info("paused; SIGUSR2 to process %d resumes it", os.getpid())
        while self.pause.is_asked and not self.stop.is_stopping():
            self.publisher.poll()
            time.sleep(MAX_SLEEP_S)
        self.clock.resume()
        logger.info("resumed")

    def _checkpoint(self, now_s: float) -> None:
        if self.checkpoints and now_s >= self._next_checkpoint_s:
            self.checkpoints.note(now_s)
            self._next_checkpoint_s = now_s + CHECKPOINT_S


def rehearse(schedule: Schedule) -> Report:
    """Return what a replay would do, without Kafka and without waiting."""
    report = Report(is_whole=True)
    for records, digest in with_digests(schedule.blocks()):
        report.add(records)
        report.digest = digest
    return report


def with_digests(blocks: Iterator[Records]) -> Iterator[tuple[Records, str]]:
    """Yield blocks, each with the digest of all records up to its last."""
    digest = Digest()
    for records in blocks:
        digest.add(records)
        yield records, str(digest)
