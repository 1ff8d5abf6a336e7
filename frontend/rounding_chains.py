"""Quantizers in pieces, as who writes their own training has them: scaled, rounded, clipped, scaled back.

    Round(x / s), Clip to [-8, 7], * s             ==>  rounded(x): codes -8 to 7 of step s
    x + (rounded(x) - x)                           ==>  rounded(x): the straight-through estimator, as it is traced
    Floor(Clip(x, 0, 1) * 15 + 1/2) / 15           ==>  rounded(x), always down

Found before constants are folded: of a weight, the codes would be lost in its values. It becomes a node of a domain of
our own, whose attribute is a `Rounding`; a file cannot hold one. What is not recognised stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from pefslc.frontend.constants import fold_constants
from pefslc.frontend.needed import nodes_that_outputs_need
from pefslc.frontend.node import constant_array
from pefslc.frontend.scalar_steps import limits, line, steps_along_an_axis
from pefslc.frontend.straight_through import without_estimators
from pefslc.numeric.rounding import RoundingMode, round_fraction

__all__ = ["DOMAIN", "ROUNDINGS", "Rounding", "spell_rounding_chains"]

DOMAIN = "pefslc"
# Of the sign of a tensor there is no quantizer; that of a weight is its codes.
ROUNDINGS = {
    "Ceil": RoundingMode.CEIL, "Floor": RoundingMode.FLOOR, "Round": RoundingMode.HALF_EVEN, "Sign": None,
}  # fmt: skip
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MOVES = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_ONE = Fraction(1)
_RANGES = {"HardSigmoid": (0 * _ONE, _ONE), "Sigmoid": (0 * _ONE, _ONE), "Tanh": (-_ONE, _ONE)}
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, np.float32, np.float64)
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
    nodes = nodes_that_outputs_need(graph, list(without_estimators(graph.nodes, outputs, tuple(ROUNDINGS))))
    made: dict[int, gs.Node] = {}
    for node in nodes:
        if node.op in ROUNDINGS and not node.domain and len(node.inputs) == len(node.outputs) == 1:
            found = _rounded(node, outputs)
            if found is not None:
                made[id(found[0])] = found[1]
    graph.nodes = nodes_that_outputs_need(graph, [made.get(id(node), node) for node in nodes])


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
            return (
                self
                if node.attrs.get("to") in (np.float32, np.float64, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
                else None
            )
        if (ends := limits(node)) is not None:
            return self._limited(*ends)
        if (affine := line(node, x)) is not None and affine[0] > 0:
            steps = tuple(step * affine[0] for step in self.steps)
            offset = self.offset * affine[0] + affine[1]
            return None if offset and len(steps) > 1 else replace(self, steps=steps, offset=offset)
        found = None if shape is None else steps_along_an_axis(node, x, shape)
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
        return _RANGES[node.op]
    if not node.inputs:
        return None, None
    if (ends := limits(node)) is not None:
        low, high = _range(node.inputs[0], depth - 1)
        found = [None if v is None else _between(v, *ends) for v in (low, high)]
        return (ends[0] if found[0] is None else found[0]), (ends[1] if found[1] is None else found[1])
    operand = next((t for t in node.inputs if constant_array(t) is None), None)
    affine = None if operand is None else line(node, operand)
    if operand is None or affine is None:
        return None, None
    low, high = (None if v is None else v * affine[0] + affine[1] for v in _range(operand, depth - 1))
    return (low, high) if affine[0] > 0 else (high, low)


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
        affine = None if operand is None else line(node, operand)
        if operand is None or affine is None:
            break
        tensor, factor, addend = operand, factor * affine[0], factor * affine[1] + addend
    return tensor, factor, addend


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
