"""Where the rows of a log stand: lines of CSV files, rows of Parquet files, counted on from file to file."""

from bisect import bisect_left
from dataclasses import dataclass

#: How a place is named in a file whose rows stand in lines, and in one that has only rows.
LINE, ROW = "line", "row"


@dataclass(frozen=True, slots=True)
class Places:
    """The files of a log, and which of the log's lines are theirs; in a log of one file they are its own."""

    #: The files as messages name them, in the order of reading.
    files: tuple[str, ...] = ()
    #: How many of the log's lines stand in the files before each.
    before: tuple[int, ...] = ()
    #: LINE or ROW, by file.
    units: tuple[str, ...] = ()

    def name(self, line: int) -> str:
        """Return where a line of the log is, as `FILE:LINE` or `FILE: row ROW`."""
        if not self.files:
            return f"line {line}"
        place, file = self._find(line)
        separator = ":" if self.units[file] == LINE else ": row "
        return f"{self.files[file]}{separator}{place}"

    def short_name(self, line: int) -> str:
        """Return where a line of the log is, without the file where there is but one."""
        if len(self.files) > 1:
            return self.name(line)
        return f"{self.units[0] if self.units else LINE} {line}"

    def _find(self, line: int) -> tuple[int, int]:
        """Return the line in its own file, and which file that is."""
        file = bisect_left(self.before, line) - 1
        return line - self.before[file], file


#: Of a log that was not read from files.
NOWHERE = Places()
