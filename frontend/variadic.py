"""Sum, Mean, Max, Min of any number of tensors, as the operators of one or two tensors that mean the same.

Sum(a, b, c)   ==>  Add(Add(a, b), c)
Mean(a, b, c)  ==>  Div(Sum(a, b, c), 3)
Max(a, 0)      ==>  Relu(a);  Max(a, c), one number  ==>  Clip(a, min=c);  Min likewise, with max
Max(a, b)      ==>  Add(Relu(Sub(a, b)), b), which is exact: these are sums of reals, not of floats
Min(a, b)      ==>  Sub(a, Relu(Sub(a, b)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from pefslc.frontend.node import constant_array

__all__ = ["VARIADIC", "spell_variadic_operators"]

VARIADIC = ("Max", "Mean", "Min", "Sum")


def spell_variadic_operators(graph: gs.Graph, opset: int) -> None:
    """Rewrite these operators, but those of constants alone; the nodes stay in execution order."""
    if any(node.op in VARIADIC for node in graph.nodes):
        rewriter = _Rewriter({*graph.tensors()}, opset)
        graph.nodes = [made for node in list(graph.nodes) for made in rewriter.rewritten(node)]


@dataclass
class _Rewriter:
    """names: of the tensors that are there."""

    names: set[str]
    opset: int

    def rewritten(self, raw: gs.Node) -> Iterator[gs.Node]:
        """What stands in the place of the node."""
        operands = list(raw.inputs)
        if raw.op not in VARIADIC or raw.domain or raw.attrs or not operands or len(raw.outputs) != 1:
            yield raw
            return
        known = [array for array in map(constant_array, operands) if array is not None]
        if (
            any(t.is_empty() for t in operands)
            or len(known) == len(operands)
            or any(a.dtype.kind != "f" for a in known)
        ):
            yield raw
            return
        (result,) = raw.outputs
        operator = raw.op
        raw.inputs.clear()
        raw.outputs.clear()
        if len(operands) == 1:
            yield gs.Node("Identity", raw.name, {}, operands, [result])
        elif operator == "Mean":
            total = self._between(result)
            yield from self._folded(raw.name, self._sum, operands, total)
            count = self._constant(result, np.float32(len(operands)))
            yield gs.Node("Div", raw.name, {}, [total, count], [result])
        else:
            pair = {"Sum": self._sum, "Max": self._maximum, "Min": self._minimum}[operator]
            yield from self._folded(raw.name, pair, operands, result)

    def _folded(self, name: str, pair: _Pair, operands: list[gs.Tensor], result: gs.Tensor) -> Iterator[gs.Node]:
        """The operator of two operands, from the first to the last."""
        left = operands[0]
        for i, right in enumerate(operands[1:], 2):
            made = result if i == len(operands) else self._between(result)
            yield from pair(name, left, right, made)
            left = made

    def _sum(self, name: str, left: gs.Tensor, right: gs.Tensor, result: gs.Tensor) -> Iterator[gs.Node]:
        yield gs.Node("Add", name, {}, [left, right], [result])

    def _maximum(self, name: str, left: gs.Tensor, right: gs.Tensor, result: gs.Tensor) -> Iterator[gs.Node]:
        left, right = _constant_last(left, right)
        limit = _number(right)
        if limit is not None:
            yield self._limited(name, left, limit, result, "min")
            return
        yield from self._risen(name, left, right, above := self._between(result))
        yield gs.Node("Add", name, {}, [above, right], [result])

    def _minimum(self, name: str, left: gs.Tensor, right: gs.Tensor, result: gs.Tensor) -> Iterator[gs.Node]:
        left, right = _constant_last(left, right)
        limit = _number(right)
        if limit is not None:
            yield self._limited(name, left, limit, result, "max")
            return
        yield from self._risen(name, right, left, above := self._between(result))
        yield gs.Node("Sub", name, {}, [right, above], [result])

    def _risen(self, name: str, left: gs.Tensor, right: gs.Tensor, result: gs.Tensor) -> Iterator[gs.Node]:
        """Relu(left - right)."""
        difference = self._between(result)
        yield gs.Node("Sub", name, {}, [left, right], [difference])
        yield gs.Node("Relu", name, {}, [difference], [result])

    def _limited(self, name: str, x: gs.Tensor, limit: float, result: gs.Tensor, side: str) -> gs.Node:
        if side == "min" and limit == 0:
            return gs.Node("Relu", name, {}, [x], [result])
        if self.opset < 11:
            return gs.Node("Clip", name, {side: limit}, [x], [result])
        bound = self._constant(result, np.float32(limit))
        bounds = [bound] if side == "min" else [gs.Variable.empty(), bound]
        return gs.Node("Clip", name, {}, [x, *bounds], [result])

    def _between(self, result: gs.Tensor) -> gs.Variable:
        return gs.Variable(self._fresh(f"{result.name}/part"), np.dtype(np.float32))

    def _constant(self, result: gs.Tensor, value: np.float32) -> gs.Constant:
        return gs.Constant(self._fresh(f"{result.name}/constant"), np.asarray(value))

    def _fresh(self, name: str) -> str:
        """`name`, or one like it that no tensor has."""
        while name in self.names:
            name += "'"
        self.names.add(name)
        return name


_Pair = Callable[[str, gs.Tensor, gs.Tensor, gs.Tensor], Iterator[gs.Node]]


def _constant_last(left: gs.Tensor, right: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
    return (right, left) if constant_array(left) is not None else (left, right)


def _number(tensor: gs.Tensor) -> float | None:
    """The number that the tensor is; None for any other."""
    array = constant_array(tensor)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.dtype.kind == "f" else None
