"""How far a replay has come for sure, kept in a file: what a replay that was cut off goes on from."""

import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
import xxhash

from models.cache_directory import writable_directory
from models.errors import DataError
from replay.publisher import ReplayProducer

logger = logging.getLogger(__name__)

#: After this long without knowing that all has arrived, the replay waits until it has (s): as rarely as makes
#: these waits WAITING_SHARE of the time, so that they do not decide how late events are, within these bounds.
SHORTEST_UNKNOWN_S, LONGEST_UNKNOWN_S = 2.0, 10.0
WAITING_SHARE = 0.004


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What Kafka has acknowledged of a replay."""

    #: How many records, from the first on.
    records: int = 0
    #: When the replay began, where its events were moved to its time (epoch ms).
    rebase_ms: int | None = None


class AcknowledgedFile:
    """The file of one replay, which is known by its log, its options and its topic."""

    def __init__(self, identity: object, directory: Path | None = None) -> None:
        name = xxhash.xxh3_64_hexdigest(repr(identity).encode())
        self.path = (directory or writable_directory("replay")) / f"{name}.json"

    def read(self) -> Acknowledged | None:
        """Return what was written last, None where nothing was; DataError where it cannot be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Acknowledged)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(
                f"{self.path}: what was acknowledged cannot be read ({error}): replay without --resume"
            ) from error

    def write(self, acknowledged: Acknowledged) -> None:
        """Replace what was written; DataError where the disk does not take it."""
        try:
            with NamedTemporaryFile(dir=self.path.parent, prefix=".part-", delete=False) as part:
                part.write(msgspec.json.encode(asdict(acknowledged)))
            Path(part.name).replace(self.path)
        except OSError as error:
            raise DataError(
                f"{self.path}: how far the replay has come cannot be written ({error.strerror}): set "
                "XDG_CACHE_HOME to a directory with room"
            ) from error


class Checkpoints:
    """Writes down how far a replay has come for sure."""

    def __init__(
        self, file: AcknowledgedFile, publisher: ReplayProducer, start: Acknowledged = Acknowledged()
    ) -> None:
        self._file, self._publisher, self._start = file, publisher, start
        self._written, self._wait_at_s = start.records, SHORTEST_UNKNOWN_S
        file.write(start)

    @property
    def records(self) -> int:
        """Return how many records of the whole replay are known to have arrived."""
        return self._start.records + self._publisher.acknowledged

    def note(self, now_s: float) -> None:
        """Write how many records have arrived; waits for those on their way where that was long unknown.

        Raises UnreachableError where one did not arrive.
        """
        self._publisher.poll()
        if self.records == self._written and now_s > self._wait_at_s:
            self._wait(now_s)
        elif self.records != self._written:
            self._wait_at_s = now_s + SHORTEST_UNKNOWN_S
        if self.records != self._written:
            self.write()

    def _wait(self, now_s: float) -> None:
        started = time.monotonic()
        self._publisher.finish()
        rest_s = (time.monotonic() - started) / WAITING_SHARE
        self._wait_at_s = now_s + min(max(rest_s, SHORTEST_UNKNOWN_S), LONGEST_UNKNOWN_S)

    def write(self) -> None:
        """Write how many records have arrived; a warning where the disk does not take it."""
        try:
            self._file.write(replace(self._start, records=self.records))
            self._written = self.records
        except DataError as error:
            logger.warning("%s; a --resume would send again what came since", error)
