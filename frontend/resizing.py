"""Resize and Upsample: nearest neighbours, by integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.frontend.sizes import check_size
from pefslc.ir.structural import Upsample
from pefslc.ir.value import Value

__all__ = ["import_resize"]

_HALF = Fraction(1, 2)
# Source: ONNX Resize-19. The position in the input, of which the nearest pixel is taken, from that in the result.
_POSITIONS: dict[str, Callable[[int, int, int], Fraction]] = {
    "asymmetric": lambda i, _, factor: Fraction(i, factor),
    "half_pixel": lambda i, _, factor: (i + _HALF) / factor - _HALF,
    "pytorch_half_pixel": lambda i, size, factor: (i + _HALF) / factor - _HALF if size * factor > 1 else Fraction(0),
    "align_corners": lambda i, size, factor: Fraction(i * (size - 1), max(size * factor - 1, 1)),
}
_NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda x: math.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: math.floor(x + _HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}


def import_resize(builder: Builder, node: Node) -> Value:
    """Resize(x, roi, scales, sizes), Resize-10(x, scales), Upsample(x, scales): each pixel copied so many times."""
    x = builder.operand(node, 0)
    mode = node.take_string("mode", "nearest")
    if mode != "nearest":
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"{node.op_type} with mode={mode!r} is not supported", hint="mode 'nearest'"
        )
    factors = _factors(node, x.type.shape)
    first = "asymmetric", "floor"  # of Upsample and Resize-10
    later = "half_pixel", "round_prefer_floor"
    defaults = later if node.op_type == "Resize" and node.opset >= 11 else first
    transformation = node.take_string("coordinate_transformation_mode", defaults[0])
    nearest = node.take_string("nearest_mode", defaults[1])
    # Of linear and cubic modes, and of sizes that keep an aspect ratio, which integers do.
    node.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias", "keep_aspect_ratio_policy")
    shape = tuple(size * factor for size, factor in zip(x.type.shape, factors, strict=True))
    check_size(shape, node.origin)
    if not _copies(x.type.shape, factors, transformation, nearest):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"{node.op_type} with coordinate_transformation_mode={transformation!r} and nearest_mode={nearest!r} does "
            "not repeat pixels",
            hint="nn.Upsample(scale_factor=2, mode='nearest') exports 'asymmetric' and 'floor'",
        )
    if set(factors) == {1}:
        return x
    return builder.append(
        Upsample(result=builder.new_value(shape, x.type.element, node.origin), input=x, factors=factors)
    )


def _factors(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many times the result is larger along each axis. Raises CompileError for what is no integer."""
    rank = len(shape)
    axes = [a % rank for a in node.take_ints("axes", None) or range(rank)]
    scales_input = 1 if node.op_type == "Upsample" or node.opset < 11 else 2
    if _holds_numbers(node, 3):
        sizes = node.integers(3, "sizes")
        wanted = [Fraction(size, shape[a]) for size, a in zip(sizes, axes, strict=False)]
    elif (scales := node.take_floats("scales", None)) is not None:
        wanted = [Fraction(s) for s in scales]
    else:
        array = node.constant(scales_input, "scales")
        finite = array.dtype.kind == "f" and bool(np.isfinite(array).all())
        wanted = [Fraction(float(s)) for s in array.reshape(-1)] if finite else []
    found = dict(zip(axes, wanted, strict=False))
    whole = len(wanted) == len(axes) == len(found) and all(s.denominator == 1 and s >= 1 for s in wanted)
    if not whole or any(found.get(a, 1) != 1 for a in (0, 1)):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(shape)} by {[float(s) for s in wanted]} is not supported",
            hint="rows and columns larger by integers",
        )
    return tuple(int(found.get(a, 1)) for a in range(rank))


def _holds_numbers(node: Node, index: int) -> bool:
    """Whether an optional input is there, and not empty, as some exporters write what they leave out."""
    return node.op_type == "Resize" and node.has_input(index) and node.constant(index, "sizes").size > 0


def _copies(shape: tuple[int, ...], factors: tuple[int, ...], transformation: str, nearest: str) -> bool:
    """Whether the nearest pixel of each of the result's is the one that it is a copy of."""
    position, rounded = _POSITIONS.get(transformation), _NEAREST.get(nearest)
    if position is None or rounded is None:
        return set(factors) == {1}
    return all(
        min(max(rounded(position(i, size, factor)), 0), size - 1) == i // factor
        for size, factor in zip(shape, factors, strict=True)
        if factor > 1
        for i in range(size * factor)
    )
