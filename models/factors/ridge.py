"""Ridge regression of many rows at once: what users and items are, given each other; as machine code."""

from typing import NamedTuple

import numpy as np

from models.arrays import Doubles, Ints
from models.compiled import compiled_with_fast_sums


class Observed(NamedTuple):
    """What R rows have observed, row r the places starts[r] to starts[r + 1] of the others.

    column (N,) of what; value (N,) what the score should be; weight (N,) how much that counts.
    """

    starts: Ints
    column: Ints
    value: Doubles
    weight: Doubles


class Ridge(NamedTuple):
    """The other side of a factorisation, C columns: features (C, D), offsets (C,) of its scores.

    gram (D, D), pull (D,): what all that is not observed, and the regularisation, add to the equations of a
    row.
    """

    features: Doubles
    offsets: Doubles
    gram: Doubles
    pull: Doubles

    @classmethod
    def of(cls, features: Doubles, offsets: Doubles, unseen_weight: float, strength: float) -> "Ridge":
        """Return the regression on these columns; unseen_weight: how much a score of 0 for each counts."""
        gram = unseen_weight * features.T @ features + strength * np.eye(features.shape[1])
        return cls(features, offsets, gram, unseen_weight * features.T @ offsets)

    def solve(self, observed: Observed) -> Doubles:
        """Return x (R, D) of each row, which minimises, over its observations n and all columns c,

        sum_n weight_n (value_n - offset - x . feature)^2 + unseen_weight sum_c (offset + x . feature)^2
        + strength |x|^2. Source: Hu, Koren and Volinsky 2008, section 4, with offsets.
        """
        found = np.empty((len(observed.starts) - 1, len(self.gram)))
        _solve(*observed, *self, found)
        return found


@compiled_with_fast_sums
def _solve(
    starts: Ints,
    column: Ints,
    value: Doubles,
    weight: Doubles,
    features: Doubles,
    offsets: Doubles,
    gram: Doubles,
    pull: Doubles,
    found: Doubles,
) -> None:
    """Write the solution of each row into found (R, D)."""
    size = len(gram)
    left = np.empty((size, size))
    for row in range(len(found)):
        left[:] = gram
        right = found[row]
        for i in range(size):
            right[i] = -pull[i]
        for place in range(starts[row], starts[row + 1]):
            feature = features[column[place]]
            residual = weight[place] * (value[place] - offsets[column[place]])
            for i in range(size):
                right[i] += residual * feature[i]
                share = weight[place] * feature[i]
                for j in range(i + 1):
                    left[i, j] += share * feature[j]
        _solve_positive(left, right)


@compiled_with_fast_sums
def _solve_positive(left: Doubles, right: Doubles) -> None:
    """Write into right (D,) the x of left @ x = right; of left (D, D), its lower half is read and lost.

    By Cholesky's decomposition: left is positive definite.
    """
    size = len(right)
    for i in range(size):
        for j in range(i + 1):
            rest = left[i, j]
            for k in range(j):
                rest -= left[i, k] * left[j, k]
            left[i, j] = np.sqrt(rest) if i == j else rest / left[j, j]
    for i in range(size):
        rest = right[i]
        for k in range(i):
            rest -= left[i, k] * right[k]
        right[i] = rest / left[i, i]
    for i in range(size - 1, -1, -1):
        rest = right[i]
        for k in range(i + 1, size):
            rest -= left[k, i] * right[k]
        right[i] = rest / left[i, i]
