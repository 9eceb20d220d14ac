"""tanh as machine code that computes several at once."""

import numpy as np

from models.compiled import compiled_with_fast_sums


@compiled_with_fast_sums
def tanh(value: np.float32) -> np.float32:
    """Return tanh to 4e-7, by arithmetic alone, so that several are computed at once.

    Source of the rational form: Eigen, Eigen/src/Core/MathFunctionsImpl.h.
    """
    x = min(max(value, np.float32(-7.9)), np.float32(7.9))
    y = x * x
    above = np.float32(-2.76076847742355e-16) * y + np.float32(2.00018790482477e-13)
    above = above * y + np.float32(-8.60467152213735e-11)
    above = above * y + np.float32(5.12229709037114e-08)
    above = above * y + np.float32(1.48572235717979e-05)
    above = above * y + np.float32(6.37261928875436e-04)
    above = above * y + np.float32(4.89352455891786e-03)
    below = np.float32(1.19825839466702e-06) * y + np.float32(1.18534705686654e-04)
    below = below * y + np.float32(2.26843463243900e-03)
    below = below * y + np.float32(4.89352518554385e-03)
    return x * above / below
