"""Many short texts in one buffer: the form in which compiled loops read ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.arrays import Bytes, Ints


@dataclass(frozen=True, slots=True)
class Texts:
    """N texts: text (bytes,) uint8, UTF-8, one behind the other; text i is text[starts[i]:starts[i + 1]]."""

    text: Bytes
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> Ints:
        """Return the length of each text in bytes (N,)."""
        return np.diff(self.starts)

    def to_list(self) -> list[str]:
        """Return each as an object of its own."""
        content, ends = self.text.tobytes(), self.starts.tolist()
        return [content[begin:end].decode() for begin, end in pairwise(ends)]


def texts_of(values: Sequence[str]) -> Texts:
    """Return the texts as one buffer. Raises UnicodeEncodeError where one is no Unicode text."""
    joined = "".join(values)
    if joined.isascii():
        content, lengths = joined.encode(), map(len, values)
    else:
        encoded = [value.encode() for value in values]
        content, lengths = b"".join(encoded), map(len, encoded)
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, len(values)), out=starts[1:])
    return Texts(np.frombuffer(content, np.uint8), starts)
