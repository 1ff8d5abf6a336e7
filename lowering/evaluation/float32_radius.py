"""How far an executor in float32 may be off the exact value of each tensor, whatever the order of its sums.

A running error bound in each element: a sum of n products is off by at most gamma(n) * sum |x w|, with
gamma(n) = n u / (1 - n u) and u = 2^-24, in any order (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
section 3.1); every other operation rounds once or a few times. A quantizer whose input lies so near to a threshold that
the bound reaches over it may give the code on the other side: its bound is then a step, or more.

It is a bound, not an estimate: behind many such codes it is wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import element_count
from pefslc.ir.quantized import (
    Add,
    Apply,
    AveragePool,
    BatchNorm,
    BiasAdd,
    Clip,
    Constant,
    Conv,
    LeakyRelu,
    Linear,
    Multiply,
    Quantize,
    QuantizedConstant,
    QuantizedOp,
    Relu,
    Scaling,
)
from pefslc.ir.reference import evaluate_op
from pefslc.ir.structural import Structural
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph, QuantizedGraph

__all__ = ["Radius", "float32_radii"]

Floats = NDArray[np.float64]

_UNIT = 2.0**-24
_SUMS = 2.0**24  # a sum of fewer steps of a power of two is a float32
_DOUBLE = 2.0**-48  # what float64, in which the exact values are evaluated, may be off itself
_FUNCTION_UNITS = 16  # of libraries' tanh, exp and their like


@dataclass(frozen=True, slots=True)
class Radius:
    """One tensor: its exact values, how far float32 may be off each; of a quantizer, where a code may be another."""

    value: Value
    exact: Floats
    radius: Floats
    undecided: NDArray[np.bool_] | None = None


def float32_radii(graph: Graph, inputs: Mapping[str, Floats]) -> Iterator[Radius]:
    """Of every input and result of a quantized graph, in order. `inputs` are float32 numbers."""
    quantized = cast("QuantizedGraph", graph)
    found = {i.value.name: Radius(i.value, inputs[i.name], np.zeros_like(inputs[i.name])) for i in graph.inputs}
    yield from found.values()
    for op in quantized.ops:
        operands = [found[v.name] for v in op.operands]
        new = _quantized(op, operands[0]) if isinstance(op, Quantize) else _computed(op, operands)
        found[op.result.name] = new
        yield new


def _quantized(op: Quantize, x: Radius) -> Radius:
    exact = evaluate_op(op, [x.exact])
    # The division by a power of two is exact.
    rounds = 0 if op.quantization.scale.is_power_of_two else 2
    reach = x.radius + (rounds * _UNIT + (_DOUBLE if rounds or x.radius.any() else 0)) * np.abs(x.exact)
    low, high = (evaluate_op(op, [end]) for end in (x.exact - reach, x.exact + reach))
    radius = np.maximum(np.abs(exact - low), np.abs(high - exact))
    return Radius(op.result, exact, radius + _rounding(exact), radius > 0)


def _computed(op: QuantizedOp, operands: list[Radius]) -> Radius:
    exact = evaluate_op(op, [o.exact for o in operands])
    return Radius(op.result, exact, _radius(op, operands, exact))


def _radius(op: QuantizedOp, operands: list[Radius], exact: Floats) -> Floats:
    values, radii = [o.exact for o in operands], [o.radius for o in operands]

    def on(arrays: list[Floats]) -> Floats:
        return evaluate_op(op, arrays)

    match op:
        case Constant() | QuantizedConstant():
            return _rounding(exact)
        case Conv() | Linear():
            size = on([np.abs(v) for v in values])
            upper = on([np.abs(v) + r for v, r in zip(values, radii, strict=True)])
            summed = _gamma(element_count(op.weight.type.shape[1:]) + 1) * upper
            return np.where(_sums_are_float32(operands, size), 0.0, upper - size + summed)
        case AveragePool():
            return on(radii) + _gamma(op.window.taps + 1) * on([np.abs(values[0]) + radii[0]])
        case Add():
            return radii[0] + radii[1] + _rounding(exact, radii[0] + radii[1])
        case Multiply():
            upper = on([np.abs(v) + r for v, r in zip(values, radii, strict=True)])
            return upper - np.abs(exact) + _UNIT * upper
        case BatchNorm() | BiasAdd() | Scaling():
            nothing = on([np.zeros_like(values[0])])
            slope = [np.abs(on([part]) - nothing) for part in (radii[0], np.abs(values[0]) + radii[0])]
            return slope[0] + 8 * _UNIT * (slope[1] + np.abs(nothing))
        case Relu() | LeakyRelu() | Clip() | Apply():
            ends = [on([values[0] + sign * radii[0]]) for sign in (-1, 1)]
            rounds = {Relu: 0, Clip: 0, LeakyRelu: 2, Apply: _FUNCTION_UNITS}[type(op)]
            return np.maximum(*(np.abs(end - exact) for end in ends)) + rounds * _UNIT * np.abs(exact)
        case _:
            assert isinstance(op, Structural)
            return on(radii)


def _gamma(count: int) -> float:
    return count * _UNIT / (1 - count * _UNIT)


def _rounding(exact: Floats, radius: Floats | None = None) -> Floats:
    """Of one rounding to float32: none of what is a float32, unless it was off before."""
    error = np.abs(exact) * _UNIT
    is_float32 = exact.astype(np.float32) == exact
    return np.where(is_float32 if radius is None else is_float32 & (radius == 0), 0.0, error)


def _sums_are_float32(operands: list[Radius], size: Floats) -> NDArray[np.bool_]:
    """Where a sum of products rounds nothing: all lies on a grid of a power of two, fewer than 2^24 steps of it."""
    steps = []
    for operand in operands[:2]:
        element = operand.value.type.element
        if not isinstance(element, Quantization) or not element.scale.is_power_of_two or element.scale.per_channel:
            return np.zeros(size.shape, dtype=bool)
        steps.append(float(element.scale.step))
    step = steps[0] * steps[1]
    bias = operands[2].exact if len(operands) > 2 else np.zeros(1)
    if any(o.radius.any() for o in operands) or (bias / step != np.rint(bias / step)).any():
        return np.zeros(size.shape, dtype=bool)
    return np.asarray(size < _SUMS * step)
