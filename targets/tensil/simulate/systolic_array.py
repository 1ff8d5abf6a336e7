"""The weights of the systolic array and the product of vectors with them, exactly as the chain of MACs computes it.

Each output lane starts from its bias and adds one product after the other; every sum is rounded and saturated. Two
shortcuts are exact, and are taken when the data at hand proves them (`SystolicArray.multiply`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.machine.arithmetic import multiply_accumulate, saturate

__all__ = ["SystolicArray"]

Codes = NDArray[np.int64]

_ALL_ZERO_BITS = 64  # trailing zero bits of 0: more than any binary point


class SystolicArray:
    """The weights [A + 1, A]: row 0 is the bias, row k multiplies input lane k - 1."""

    def __init__(self, architecture: Architecture) -> None:
        size = architecture.array_size
        self._data_type = architecture.data_type
        self._matrix = _Matrix(np.zeros((size + 1, size), dtype=np.int64), self._data_type)

    @property
    def weights(self) -> Codes:
        return self._matrix.rows

    def load(self, vectors: Codes) -> None:
        """Shifts in `vectors` [n, A], last first: the rows end as `vectors` followed by the old rows, A + 1 in all."""
        rows = np.concatenate((vectors, self._matrix.rows))[: len(self._matrix.rows)]
        self._matrix = _Matrix(rows, self._data_type)

    def multiply(self, x: Codes) -> tuple[Codes, bool]:
        """The result [n, A] for input vectors [n, A], and whether any step saturated.

        The one-product shortcut. Let m = max |x|, and suppose that 2^p divides every product x_j * w_jc. Then
        MAC(x_j, w_jc, s) = sat(s + x_j * w_jc / 2^p) with nothing to round. Suppose further that for every lane c
        |bias_c| + m * sum_j |w_jc| / 2^p <= max_code. Then by induction every prefix of the sum is within range and
        sat changes nothing, so the result is bias_c + sum_j x_j * w_jc / 2^p in any order. In float64 that is exact
        too: w / 2^p is exact, each term and each partial sum is an integer below 2^31.
        """
        matrix, point = self._matrix, self._data_type.binary_point
        exact = matrix.trailing_zeros >= point or matrix.trailing_zeros + _trailing_zeros(x) >= point
        if exact and max(int(x.max()), -int(x.min())) <= matrix.largest_input:
            return (x.astype(np.float64) @ matrix.scaled + matrix.bias).astype(np.int64), False
        return self._chain(x, exact)

    def _chain(self, x: Codes, exact: bool) -> tuple[Codes, bool]:
        """One MAC after the other, for all vectors at once.

        A MAC with weight 0 leaves the sum as it is, so each lane runs through its non-zero weights only: a diagonal
        matrix takes one step. Lanes with fewer weights than others pass the remaining steps with weight 0.
        """
        total = np.broadcast_to(self._matrix.rows[0], x.shape)
        saturated = False
        for lanes, weights in self._matrix.steps:
            if exact:
                total = total + (x[:, lanes] * weights >> self._data_type.binary_point)
            else:
                total = multiply_accumulate(x[:, lanes], weights, total, self._data_type)
            total, clipped = saturate(total, self._data_type)
            saturated |= clipped
        return total, saturated


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The weights, and what multiplying needs to know about them: computed on the first use of the facts."""

    rows: Codes
    data_type: DataType

    @cached_property
    def bias(self) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self.rows[0].astype(np.float64)
        return values

    @cached_property
    def trailing_zeros(self) -> int:
        """The number of low bits that are zero in every weight."""
        return _trailing_zeros(self.rows[1:])

    @cached_property
    def largest_input(self) -> int:
        """The largest m with |bias_c| + m * sum_j |w_jc| / 2^p <= max_code in every lane c; negative if there is none.

        The left side of the second inequality below is at most 2^47: no overflow.
        """
        room = (self.data_type.max_code - np.abs(self.rows[0])) << self.data_type.binary_point
        sums = np.abs(self.rows[1:]).sum(axis=0)
        # A lane without weights bounds nothing unless its bias alone is out of the symmetric range.
        return int((room // np.maximum(sums, 1)).min())

    @cached_property
    def scaled(self) -> NDArray[np.float64]:
        """The weights without the bias, as the numbers that they stand for."""
        values: NDArray[np.float64] = self.rows[1:] / self.data_type.one
        return values

    @cached_property
    def steps(self) -> list[tuple[NDArray[np.intp], Codes]]:
        """The non-zero weights in the order of the chain: per step the input lane [A] and the weight [A] of each lane.

        The sort is stable, so rows with a weight come first and keep their order.
        """
        matrix = self.rows[1:]
        order = np.argsort(matrix == 0, axis=0, kind="stable")
        longest = int(np.count_nonzero(matrix, axis=0).max())
        return [(order[step], np.take_along_axis(matrix, order[step : step + 1], axis=0)[0]) for step in range(longest)]


def _trailing_zeros(codes: Codes) -> int:
    """The number of low bits that are zero in every code."""
    bits = int(np.bitwise_or.reduce(codes, axis=None))
    return (bits & -bits).bit_length() - 1 if bits else _ALL_ZERO_BITS
