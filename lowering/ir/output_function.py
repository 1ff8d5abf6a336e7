"""The last step of a classifier, which the host takes: a function of an output's values that no codes hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Shape
from pefslc.numeric.quantize import dequantize, quantize_array
from pefslc.numeric.quantizer import Quantizer

__all__ = ["OutputFunction", "OutputFunctionKind"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class OutputFunctionKind(Enum):
    """What the host computes."""

    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log_softmax"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    ARG_MAX = "arg_max"


@dataclass(frozen=True, slots=True)
class OutputFunction:
    """function(values), in float64; ArgMax in integers (ONNX Softmax-13, LogSoftmax-13, ArgMax-13).

    axis       that it goes along, not the batch's; of no meaning for sigmoid and tanh
    keepdims   ArgMax: whether the axis stays, of size 1
    last       ArgMax: whether the last of equal maxima is taken, not the first
    quantizer  that the results go through, of one step: the output is the values of its codes; None: of none
    as_codes   whether it is the codes themselves
    """

    kind: OutputFunctionKind
    axis: int = 1
    keepdims: bool = True
    last: bool = False
    quantizer: Quantizer | None = None
    as_codes: bool = False

    def __str__(self) -> str:
        """In words, for people."""
        if self.quantizer is None:
            return self._name()
        q, what = self.quantizer.quantization, "the codes" if self.as_codes else "the values of the codes"
        return f"{self._name()}, of it {what} of {q}"

    def _name(self) -> str:
        match self.kind:
            case OutputFunctionKind.SIGMOID | OutputFunctionKind.TANH:
                return f"{self.kind.value} of the values"
            case OutputFunctionKind.ARG_MAX:
                which = "last" if self.last else "first"
                return f"the index of the largest value along axis {self.axis}, the {which} of equals"
            case OutputFunctionKind.SOFTMAX | OutputFunctionKind.LOG_SOFTMAX:
                return f"{self.kind.value} of the values along axis {self.axis}"

    @property
    def makes_values(self) -> bool:
        """Whether its results are real numbers, no indices."""
        return self.kind is not OutputFunctionKind.ARG_MAX

    def shape(self, shape: Shape) -> Shape:
        """The result's, for values of `shape`."""
        if self.makes_values:
            return shape
        return (*shape[: self.axis], *((1,) if self.keepdims else ()), *shape[self.axis + 1 :])

    def __call__(self, x: Floats) -> Floats:
        """Of values. An index is a float64, too, as all results are."""
        return self._quantized(self._of_values(x))

    def bounds(self, low: Floats, high: Floats, noise: Floats | float) -> tuple[Floats, Floats]:
        """(least, most) that results of values between `low` and `high` may be; of functions that make values.

        noise  by how much a result may be off before the quantizer
        """
        assert self.makes_values, "an index has no bounds"
        if self.kind in (OutputFunctionKind.SIGMOID, OutputFunctionKind.TANH):
            least, most = self._of_values(low), self._of_values(high)
        else:  # each rises with its own value, and falls with the others along the axis
            least, most = self._of_one(low, high), self._of_one(high, low)
        return self._quantized(least - noise), self._quantized(most + noise)

    def _of_one(self, own: Floats, others: Floats) -> Floats:
        """Of a softmax: each result for its own value beside the others' `others`."""
        largest = np.maximum(own, others).max(axis=self.axis, keepdims=True)
        power, powers = np.exp(own - largest), np.exp(others - largest)
        total = np.maximum(powers.sum(axis=self.axis, keepdims=True) - powers, 0.0) + power
        with np.errstate(divide="ignore"):
            found = power / total if self.kind is OutputFunctionKind.SOFTMAX else own - largest - np.log(total)
        return np.asarray(found, dtype=np.float64)

    def _quantized(self, results: Floats) -> Floats:
        if self.quantizer is None:
            return results
        codes = quantize_array(self.quantizer, results, 1)
        return codes.astype(np.float64) if self.as_codes else dequantize(codes, self.quantizer.quantization, 1)

    def _of_values(self, x: Floats) -> Floats:
        match self.kind:
            case OutputFunctionKind.SOFTMAX:
                powers = np.exp(x - x.max(axis=self.axis, keepdims=True))
                return np.asarray(powers / powers.sum(axis=self.axis, keepdims=True), dtype=np.float64)
            case OutputFunctionKind.LOG_SOFTMAX:
                below = x - x.max(axis=self.axis, keepdims=True)
                return np.asarray(below - np.log(np.exp(below).sum(axis=self.axis, keepdims=True)), dtype=np.float64)
            case OutputFunctionKind.SIGMOID:
                small = np.exp(-np.abs(x))
                return np.where(x >= 0, 1 / (1 + small), small / (1 + small))
            case OutputFunctionKind.TANH:
                return np.tanh(x)
            case OutputFunctionKind.ARG_MAX:
                return self._index(x)

    def of_codes(self, codes: Codes, scale: Sequence[Fraction], offset: Sequence[Fraction]) -> Floats | None:
        """ArgMax of scale * code + offset (channels on axis 1) without rounding; None for the functions of values."""
        if self.makes_values:
            return None
        shape = (1, -1) + (1,) * (codes.ndim - 2)
        factors, addends = (np.array(part, dtype=object) for part in self.keys(scale, offset))
        return self._index(codes.astype(object) * factors.reshape(shape) + addends.reshape(shape))

    def keys(self, scale: Sequence[Fraction], offset: Sequence[Fraction]) -> tuple[list[int], list[int]]:
        """(factors, addends), per channel or one for all: along the axis code * factor + addend is in the order of the
        values scale * code + offset, and equal where they are.

        Small numbers where the channels share a scale: whole codes, then the rank of what is left of an offset.
        """
        if self.axis != 1:  # one channel is compared with itself
            return [(s > 0) - (s < 0) for s in scale], [0]
        unit = lcm(*(v.denominator for v in (*scale, *offset)))
        factors, addends = ([int(v * unit) for v in part] for part in (scale, offset))
        step = abs(factors[0])
        if not step or len(set(factors)) > 1:
            common = gcd(*factors, *addends) or 1
            return [f // common for f in factors], [a // common for a in addends]
        rests = sorted({a % step for a in addends})
        sign = 1 if factors[0] > 0 else -1
        return [sign * len(rests)], [a // step * len(rests) + rests.index(a % step) for a in addends]

    def _index(self, x: NDArray[np.float64] | NDArray[np.object_]) -> Floats:
        turned = np.flip(x, axis=self.axis) if self.last else x
        found = np.argmax(turned, axis=self.axis)
        if self.last:
            found = x.shape[self.axis] - 1 - found
        return (np.expand_dims(found, self.axis) if self.keepdims else found).astype(np.float64)
