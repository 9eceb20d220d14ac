"""Names for the types of arrays; their shapes are said where they are taken or returned."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
#: Bits of which only equality counts: hashes, fingerprints, eight bytes of text.
Words = npt.NDArray[np.uint64]
