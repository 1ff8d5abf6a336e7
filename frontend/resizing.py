"""Resize and Upsample: nearest neighbours; linear ones are in `interpolation`."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.gathering import taken_along
from pefslc.frontend.interpolation import import_linear
from pefslc.frontend.node import Node
from pefslc.frontend.sizes import check_size
from pefslc.ir.structural import Upsample
from pefslc.ir.value import Value

__all__ = ["import_resize"]

_HALF = Fraction(1, 2)
_LONGEST_AXIS = 1 << 14  # for which each pixel's neighbour is looked for
_WAYS = ("align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel")
_WAYS_OF_NEAREST = (*_WAYS, "half_pixel_symmetric", "tf_half_pixel_for_nn")
_NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda x: math.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: math.floor(x + _HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}


def import_resize(builder: Builder, node: Node) -> Value:
    """Resize(x, roi, scales, sizes), Resize-10(x, scales), Upsample(x, scales): of nearest or linear neighbours."""
    x = builder.operand(node, 0)
    mode = node.take_string("mode", "nearest")
    if mode not in ("linear", "nearest"):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"{node.op_type} with mode={mode!r} is not supported",
            hint="mode 'nearest' or 'linear'",
        )
    sizes, scales = _wanted(node, x.type.shape)
    first = "asymmetric", "floor"  # of Upsample and Resize-10
    later = "half_pixel", "round_prefer_floor"
    defaults = later if node.op_type == "Resize" and node.opset >= 11 else first
    way = node.take_string("coordinate_transformation_mode", defaults[0])
    nearest = node.take_string("nearest_mode", defaults[1])
    antialias = node.take_int("antialias", 0)
    # Of cubic modes, of what lies outside, and of sizes that keep an aspect ratio, which integers do.
    node.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy")
    check_size(sizes, node.origin)
    if way not in (_WAYS_OF_NEAREST if mode == "nearest" else _WAYS) or nearest not in _NEAREST:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"{node.op_type} with coordinate_transformation_mode={way!r} and nearest_mode={nearest!r} is not supported",
            hint="nn.Upsample(scale_factor=2, mode='nearest') exports 'asymmetric' and 'floor'",
        )
    changed = [axis for axis, (size, before) in enumerate(zip(sizes, x.type.shape, strict=True)) if size != before]
    if mode == "linear" and any(x.type.shape[axis] > 1 for axis in changed):
        return import_linear(builder, node, x, sizes, way, antialias=bool(antialias))
    for axis in changed:
        before, after, scale = x.type.shape[axis], sizes[axis], scales[axis]
        if (way, nearest) == first and scale.denominator == 1:
            x = _repeated(builder, node, x, axis, int(scale))
            continue
        if after > _LONGEST_AXIS:
            raise node.fault(
                Code.UNSUPPORTED_SHAPE,
                f"{node.op_type} to {list(sizes)} is not supported",
                hint=f"an axis may have {_LONGEST_AXIS:,} pixels; more by 'asymmetric', 'floor' and integers",
            )
        indices = [_nearest_of(node, i, before, after, scale, way, nearest) for i in range(after)]
        if after % before == 0 and indices == [i // (after // before) for i in range(after)]:
            x = _repeated(builder, node, x, axis, after // before)
        else:
            x = taken_along(builder, node, x, axis, indices)
    return x


def _repeated(builder: Builder, node: Node, x: Value, axis: int, times: int) -> Value:
    factors = tuple(times if a == axis else 1 for a in range(len(x.type.shape)))
    inner = builder.producer(x)
    if isinstance(inner, Upsample) and inner.result.origin == node.origin:  # one for rows and columns
        builder.superseded.add(x.name)
        x, factors = inner.input, tuple(map(math.prod, zip(inner.factors, factors, strict=True)))
    shape = tuple(size * factor for size, factor in zip(x.type.shape, factors, strict=True))
    result = builder.new_value(shape, x.type.element, node.origin)
    return builder.append(Upsample(result=result, input=x, factors=factors))


def _nearest_of(node: Node, i: int, before: int, after: int, scale: Fraction, way: str, nearest: str) -> int:
    """The index of which pixel `i` of the result is a copy, along one axis.

    Runtimes compute the position in float32. Where that takes another pixel (2 / 0.33333334 is 6), none is right.
    """
    position = _position(way, i, before, after, scale)
    floats = Fraction(_in_float32(way, i, before, after, scale))
    found, rounded = (min(max(_NEAREST[nearest](p), 0), before - 1) for p in (position, floats))
    if found != rounded:
        raise node.fault(
            Code.PARAMETER_VALUE,
            f"{node.op_type} by {float(scale)}: which pixel is the nearest depends on rounding in float32",
            hint="export with the sizes of the result, not with scales: nn.Upsample(size=...)",
        )
    return found


def _position(way: str, i: int, before: int, after: int, scale: Fraction) -> Fraction:
    """Where in the input pixel `i` of the result lies (ONNX Resize-19)."""
    if way == "asymmetric":
        return i / scale
    if way == "align_corners":
        return Fraction(i * (before - 1), max(after - 1, 1))
    if way == "tf_half_pixel_for_nn":
        return (i + _HALF) / scale
    if way == "half_pixel_symmetric":
        return (i + _HALF) / scale - _HALF + Fraction(before, 2) * (1 - after / (scale * before))
    return (i + _HALF) / scale - _HALF if way == "half_pixel" or after > 1 else Fraction(0)


def _in_float32(way: str, i: int, before: int, after: int, scale: Fraction) -> float:
    """The position as ONNX Runtime computes it."""
    at, by, half = np.float32(i), np.float32(float(scale)), np.float32(0.5)
    if way == "asymmetric":
        return float(at / by)
    if way == "align_corners":
        return float(at * np.float32(before - 1) / np.float32(max(after - 1, 1)))
    if way == "tf_half_pixel_for_nn":
        return float((at + half) / by)
    if way == "half_pixel_symmetric":
        centre, adjustment = np.float32(before / 2), np.float32(after) / (by * np.float32(before))
        return float(centre * (np.float32(1) - adjustment) + (at + half) / by - half)
    return float((at + half) / by - half) if way == "half_pixel" or after > 1 else 0.0


def _wanted(node: Node, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[Fraction, ...]]:
    """The sizes of the result and the scale along each axis. Raises CompileError for what is none."""
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
    after = [math.floor(size * found.get(a, 1)) for a, size in enumerate(shape)]
    is_whole = len(wanted) == len(axes) == len(found) and min(after, default=0) > 0
    if not is_whole or any(found.get(a, 1) != 1 for a in (0, 1)):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(shape)} by {[float(s) for s in wanted]} is not supported",
            hint="rows and columns may change, batch and channels may not",
        )
    return tuple(after), tuple(found.get(a, Fraction(1)) for a in range(rank))


def _holds_numbers(node: Node, index: int) -> bool:
    """Whether an optional input is there, and not empty, as some exporters write what they leave out."""
    return node.op_type == "Resize" and node.has_input(index) and node.constant(index, "sizes").size > 0
