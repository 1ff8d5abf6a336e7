"""Quantizers in pieces, as who writes their own training has them: scaled, rounded, clipped, scaled back.

    Round(x / s), Clip to [-8, 7], * s             ==>  rounded(x): codes -8 to 7 of step s
    x + (rounded(x) - x)                           ==>  rounded(x): the straight-through estimator, as it is traced
    Floor(Clip(x, 0, 1) * 15 + 1/2) / 15           ==>  rounded(x), always down

Found before constants are folded: of a weight, the codes would be lost in its values. It becomes a node of a domain of our
own, whose attribute is a `Rounding`; a file cannot hold one. What is not recognised stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from pefslc.frontend.constants import fold_constants
from pefslc.frontend.needed import nodes_that_outputs_need
from pefslc.frontend.node import constant_array
from pefslc.numeric.rounding import RoundingMode, round_fraction

__all__ = ["DOMAIN", "ROUNDINGS", "Rounding", "spell_rounding_chains"]

DOMAIN = "pefslc"
# Of the sign of a tensor there is no quantizer; that of a weight is its codes.
ROUNDINGS = {
    "Ceil": RoundingMode.CEIL, "Floor": RoundingMode.FLOOR, "Round": RoundingMode.HALF_EVEN, "Sign": None,
}  # fmt: skip
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MOVES = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_RANGES = {"HardSigmoid": (0, 1), "Sigmoid": (0, 1), "Tanh": (-1, 1)}
_LONGEST_CHAIN = 32
_MOST_MULTIPLE = 256


@dataclass(frozen=True, slots=True)
class Rounding:
    """(n * multiple - zero_point) * step with n = clip(round(u), low, high), u being the operand of the node.

    mode        None for the sign of a weight
    low, high   None where nothing limits n
    multiple    other than 1 of weights only
    steps       one, or one for each index along `axis`
    of_values   whether the operand is (u - zero_point) * step instead
    """

    mode: RoundingMode | None
    low: int | None
    high: int | None
    multiple: int
    zero_point: int
    steps: tuple[Fraction, ...]
    axis: int
    of_values: bool


def spell_rounding_chains(graph: gs.Graph, opset: int) -> None:
    """Rewrite the chains around the roundings; the nodes stay in execution order."""
    if not any(node.op in ROUNDINGS and not node.domain for node in graph.nodes):
        return
    fold_constants(graph, opset, but=tuple(ROUNDINGS))
    outputs = {id(tensor) for tensor in graph.outputs}
    nodes = nodes_that_outputs_need(graph, list(_without_estimators(graph.nodes, outputs)))
    made: dict[int, gs.Node] = {}
    for node in nodes:
        if node.op in ROUNDINGS and not node.domain and len(node.inputs) == len(node.outputs) == 1:
            found = _rounded(node, outputs)
            if found is not None:
                made[id(found[0])] = found[1]
    graph.nodes = nodes_that_outputs_need(graph, [made.get(id(node), node) for node in nodes])


# --- one chain ---------------------------------------------------------------------------------------------------------


def _rounded(node: gs.Node, outputs: set[int]) -> tuple[gs.Node, gs.Node] | None:
    """The last node of the chain around `node`, and the node that stands for it; None where it is none."""
    operand = node.inputs[0]
    weights = constant_array(operand)
    if weights is None and ROUNDINGS[node.op] is None:
        return None
    if weights is not None and not (weights.dtype.kind == "f" and weights.ndim > 1 and _is_weight(node.outputs[0])):
        return None
    chain = _Chain(node, outputs, None if weights is None else weights.shape)
    chain.follow()
    source, rounding = chain.rounding()
    last = chain.pieces[-1]
    results = list(last.outputs)
    for piece in chain.pieces:
        piece.inputs.clear()
        piece.outputs.clear()
    operands = [source if rounding.of_values else operand]
    return last, gs.Node(node.op, node.name, {"rounding": rounding}, operands, results, domain=DOMAIN)


@dataclass(frozen=True, slots=True)
class _Code:
    """step * n + offset, n in [low, high]; a step for each index along `axis` of a weight only without offset."""

    low: int | None
    high: int | None
    steps: tuple[Fraction, ...] = (Fraction(1),)
    offset: Fraction = Fraction(0)
    axis: int = 0

    @property
    def zero_point(self) -> Fraction:
        """In steps."""
        return -self.offset / self.steps[0]

    def behind(self, node: gs.Node, x: gs.Tensor, shape: tuple[int, ...] | None) -> _Code | None:
        """What the node makes of it; None where that is no such code. `shape` is a weight's."""
        if node.op == "Cast":
            return self if node.attrs.get("to") in (np.float32, np.float64, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE) else None
        if (limits := _limits(node)) is not None:
            return self._limited(*limits)
        if (line := _line(node, x)) is not None and line[0] > 0:
            steps = tuple(step * line[0] for step in self.steps)
            offset = self.offset * line[0] + line[1]
            return None if offset and len(steps) > 1 else replace(self, steps=steps, offset=offset)
        found = None if shape is None else _steps_along_an_axis(node, x, shape)
        if found is None or self.offset or len(self.steps) > 1:
            return None
        return replace(self, steps=tuple(step * self.steps[0] for step in found[0]), axis=found[1])

    def _limited(self, low: Fraction | None, high: Fraction | None) -> _Code | None:
        """Clipped to values that it has."""
        if len(self.steps) > 1 and not (low == 0 and high is None):
            return None
        ends = [None if v is None else (v - self.offset) / self.steps[0] for v in (low, high)]
        if any(v is not None and v.denominator != 1 for v in ends):
            return None
        lows = [v for v in (self.low, ends[0]) if v is not None]
        highs = [v for v in (self.high, ends[1]) if v is not None]
        least, most = (int(max(lows)) if lows else None), (int(min(highs)) if highs else None)
        if least is not None and most is not None and least > most:
            return None
        return replace(self, low=least, high=most)


class _Chain:
    """A rounding and what follows it, as long as each node has one reader and its result is a code."""

    def __init__(self, node: gs.Node, outputs: set[int], shape: tuple[int, ...] | None) -> None:
        self.outputs = outputs
        self.shape = shape
        self.pieces = [node]
        self.code = _Code(*_code_limits(node))

    def follow(self) -> None:
        """Take what follows, up to the last node behind which the zero point is one."""
        code, pieces = self.code, list(self.pieces)
        while (node := self._next(pieces)) is not None:
            made = code.behind(node, pieces[-1].outputs[0], self.shape)
            if made is None:
                return
            code = made
            pieces.append(node)
            if code.zero_point.denominator <= (1 if self.shape is None else _MOST_MULTIPLE):
                self.code, self.pieces = code, list(pieces)

    def _next(self, pieces: list[gs.Node]) -> gs.Node | None:
        tensor = pieces[-1].outputs[0]
        readers = tensor.outputs
        alone = len(readers) == 1 and id(tensor) not in self.outputs and len(readers[0].outputs) == 1
        return readers[0] if alone and not readers[0].domain and len(pieces) < _LONGEST_CHAIN else None

    def rounding(self) -> tuple[gs.Tensor, Rounding]:
        """What the chain means, and the tensor that it rounds the values of, where it is `of_values`."""
        (node, *_), code = self.pieces, self.code
        source, of_values = node.inputs[0], False
        multiple = code.zero_point.denominator
        if self.shape is None:
            source, factor, addend = _line_before(node.inputs[0])
            of_values = factor * code.steps[0] == 1 and addend == code.zero_point
        steps = tuple(step / multiple for step in code.steps)
        zero_point = int(code.zero_point * multiple)
        mode = ROUNDINGS[node.op]
        return source, Rounding(mode, code.low, code.high, multiple, zero_point, steps, code.axis, of_values)


def _code_limits(node: gs.Node) -> tuple[int | None, int | None]:
    """The codes that the rounding may make, by what stands before it."""
    low, high = _range(node.inputs[0], _LONGEST_CHAIN)
    mode = ROUNDINGS[node.op]
    if mode is None:
        return -1, 1
    return (
        None if low is None else round_fraction(low, mode),
        None if high is None else round_fraction(high, mode),
    )


def _range(tensor: gs.Tensor, depth: int) -> tuple[Fraction | None, Fraction | None]:
    """The least and the largest value of a tensor as far as Clip, Relu and their like say."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.domain or depth == 0:
        return None, None
    if node.op in _RANGES:
        low, high = _RANGES[node.op]
        return Fraction(low), Fraction(high)
    if not node.inputs:
        return None, None
    if (limits := _limits(node)) is not None:
        low, high = _range(node.inputs[0], depth - 1)
        found = [None if v is None else _between(v, *limits) for v in (low, high)]
        return (limits[0] if found[0] is None else found[0]), (limits[1] if found[1] is None else found[1])
    operand = next((t for t in node.inputs if constant_array(t) is None), None)
    line = None if operand is None else _line(node, operand)
    if operand is None or line is None:
        return None, None
    ends = [None if v is None else v * line[0] + line[1] for v in _range(operand, depth - 1)]
    return (ends[0], ends[1]) if line[0] > 0 else (ends[1], ends[0])


def _between(value: Fraction, low: Fraction | None, high: Fraction | None) -> Fraction:
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def _line_before(tensor: gs.Tensor) -> tuple[gs.Tensor, Fraction, Fraction]:
    """(x, factor, addend) with tensor = factor * x + addend, as far back as one number scales or moves it."""
    factor, addend = Fraction(1), Fraction(0)
    for _ in range(_LONGEST_CHAIN):
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None or node.domain or node.op not in ("Add", "Div", "Mul", "Sub"):
            break
        operand = next((t for t in node.inputs if constant_array(t) is None), None)
        line = None if operand is None else _line(node, operand)
        if operand is None or line is None:
            break
        tensor, factor, addend = operand, factor * line[0], factor * line[1] + addend
    return tensor, factor, addend


def _line(node: gs.Node, x: gs.Tensor) -> tuple[Fraction, Fraction] | None:
    """(a, b) with a != 0 where the node computes a * x + b for two numbers; None for others."""
    if node.domain or node.op not in ("Add", "Div", "Mul", "Neg", "Sub"):
        return None
    if node.op == "Neg":
        return Fraction(-1), Fraction(0)
    if len(node.inputs) != 2:
        return None
    is_first = node.inputs[0] is x
    value = _number(node.inputs[1 if is_first else 0])
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


def _limits(node: gs.Node) -> tuple[Fraction | None, Fraction | None] | None:
    """(low, high) of a Clip or Relu; None for other nodes, and for limits that are no finite numbers."""
    if node.domain or node.op not in ("Clip", "Relu"):
        return None
    if node.op == "Relu":
        return Fraction(0), None
    found: list[Fraction | None] = []
    for index, name in ((1, "min"), (2, "max")):
        if index < len(node.inputs) and not node.inputs[index].is_empty():
            value = _number(node.inputs[index])
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


def _number(tensor: gs.Tensor) -> Fraction | None:
    """The number that a constant is, exactly; None for all else, and where none would stay near a code."""
    array = constant_array(tensor)
    if array is None or array.size != 1 or array.dtype.kind not in "fiu":
        return None
    value = float(array.reshape(-1)[0])
    usual = math.isfinite(value) and (value == 0 or 2.0**-126 <= abs(value) <= 2.0**126)
    return Fraction(value) if usual else None


def _steps_along_an_axis(
    node: gs.Node, x: gs.Tensor, shape: tuple[int, ...]
) -> tuple[tuple[Fraction, ...], int] | None:
    """The positive factors by which the node scales x, one for each index along an axis of its shape."""
    is_first = node.inputs[0] is x
    array = constant_array(node.inputs[1 if is_first else 0])
    if array is None or array.dtype.kind != "f" or array.ndim > len(shape) or not np.isfinite(array).all():
        return None
    aligned = (1,) * (len(shape) - array.ndim) + array.shape
    wide = [axis for axis, size in enumerate(aligned) if size > 1]
    if len(wide) != 1 or aligned[wide[0]] != shape[wide[0]] or not (array > 0).all():
        return None
    numbers = tuple(Fraction(float(v)) for v in array.reshape(-1))
    if node.op == "Div":
        return (tuple(1 / v for v in numbers), wide[0]) if is_first else None
    return numbers, wide[0]


def _is_weight(tensor: gs.Tensor) -> bool:
    """Whether a product takes the tensor as its weight, behind what computes element by element or moves it."""
    waiting, seen = [tensor], {id(tensor)}
    while waiting:
        tensor = waiting.pop()
        for reader in tensor.outputs:
            if reader.op in _PRODUCTS:
                if tensor in reader.inputs[1:2]:
                    return True
            elif reader.op in (*_MOVES, "Add", "Clip", "Div", "Mul", "Sub"):
                for result in reader.outputs:
                    if id(result) not in seen:
                        seen.add(id(result))
                        waiting.append(result)
    return False


# --- the straight-through estimator ------------------------------------------------------------------------------------


def _without_estimators(nodes: list[gs.Node], outputs: set[int]) -> Iterator[gs.Node]:
    """The nodes without each x + (y - x): who reads it reads y, where y is rounded."""
    for node in nodes:
        source = _estimated(node) if node.op == "Add" and not node.domain else None
        if source is None:
            yield node
            continue
        (result,) = node.outputs
        node.inputs.clear()
        if id(result) in outputs:
            node.outputs.clear()
            yield gs.Node("Identity", node.name, {}, [source], [result])
            continue
        for reader in list(result.outputs):
            reader.inputs = [source if tensor is result else tensor for tensor in reader.inputs]


def _estimated(node: gs.Node) -> gs.Tensor | None:
    """y of x + (y - x)."""
    if len(node.inputs) != 2 or len(node.outputs) != 1:
        return None
    for x, difference in (node.inputs, node.inputs[::-1]):
        maker = difference.inputs[0] if difference.inputs else None
        if maker is None or maker.op != "Sub" or maker.domain or len(maker.inputs) != 2:
            continue
        y, subtracted = maker.inputs
        if subtracted is x and _is_rounded(y):
            return y
    return None


def _is_rounded(tensor: gs.Tensor) -> bool:
    """Whether the tensor comes of a rounding, behind what computes element by element."""
    for _ in range(_LONGEST_CHAIN):
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None:
            return False
        if node.op in ROUNDINGS:
            return True
        operand = next((t for t in node.inputs if constant_array(t) is None), None)
        if operand is None or node.op not in ("Add", "Clip", "Div", "Mul", "Relu", "Sub"):
            return False
        tensor = operand
    return False
