"""Nodes that scale, move or clip a tensor by constants: which numbers they do it by, exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx_graphsurgeon as gs

from pefslc.frontend.node import constant_array

__all__ = ["limits", "line", "steps_along_an_axis"]


def line(node: gs.Node, x: gs.Tensor) -> tuple[Fraction, Fraction] | None:
    """(a, b) with a != 0 where the node computes a * x + b for two numbers; None for others."""
    if node.domain or node.op not in ("Add", "Div", "Mul", "Neg", "Sub"):
        return None
    if node.op == "Neg":
        return Fraction(-1), Fraction(0)
    if len(node.inputs) != 2:
        return None
    is_first = node.inputs[0] is x
    value = number(node.inputs[1 if is_first else 0])
    if value is None or node.inputs[0] is node.inputs[1]:
        return None
    match node.op:
        case "Add":
            return Fraction(1), value
        case "Sub":
            return (Fraction(1), -value) if is_first else (Fraction(-1), value)
        case "Mul":
            return (value, Fraction(0)) if value else None
        case _:
            return (1 / value, Fraction(0)) if value and is_first else None


def limits(node: gs.Node) -> tuple[Fraction | None, Fraction | None] | None:
    """(low, high) of a Clip or Relu; None for other nodes, and for limits that are no finite numbers."""
    if node.domain or node.op not in ("Clip", "Relu"):
        return None
    if node.op == "Relu":
        return Fraction(0), None
    found: list[Fraction | None] = []
    for index, name in ((1, "min"), (2, "max")):
        if index < len(node.inputs) and not node.inputs[index].is_empty():
            value = number(node.inputs[index])
            if value is None:
                return None
            found.append(value)
        elif name in node.attrs:
            value = node.attrs[name]
            if not isinstance(value, float) or not math.isfinite(value):
                return None
            found.append(Fraction(value))
        else:
            found.append(None)
    low, high = found
    return None if low is not None and high is not None and low > high else (low, high)


def number(tensor: gs.Tensor) -> Fraction | None:
    """The number that a constant is, exactly; None for all else, and where none would stay near a code."""
    array = constant_array(tensor)
    if array is None or array.size != 1 or array.dtype.kind not in "fiu":
        return None
    value = float(array.reshape(-1)[0])
    usual = math.isfinite(value) and (value == 0 or 2.0**-126 <= abs(value) <= 2.0**126)
    return Fraction(value) if usual else None


def steps_along_an_axis(node: gs.Node, x: gs.Tensor, shape: tuple[int, ...]) -> tuple[tuple[Fraction, ...], int] | None:
    """The positive factors by which the node scales x, one for each index along an axis of its shape."""
    if node.domain or node.op not in ("Div", "Mul") or len(node.inputs) != 2:
        return None
    is_first = node.inputs[0] is x
    array = constant_array(node.inputs[1 if is_first else 0])
    if array is None or array.dtype.kind != "f" or array.ndim > len(shape) or not np.isfinite(array).all():
        return None
    factors = array.astype(np.float64)  # every float of a file is exact in it
    aligned = (1,) * (len(shape) - array.ndim) + array.shape
    wide = [axis for axis, size in enumerate(aligned) if size > 1]
    if len(wide) != 1 or aligned[wide[0]] != shape[wide[0]] or not (factors > 0).all():
        return None
    numbers = tuple(Fraction(float(v)) for v in factors.reshape(-1))
    if node.op == "Div":
        return (tuple(1 / v for v in numbers), wide[0]) if is_first else None
    return numbers, wide[0]
