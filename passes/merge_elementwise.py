"""Products and sums of one tensor's functions are functions of that tensor."""

from __future__ import annotations

from typing import ClassVar

from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import Add, Apply, BiasAdd, Clip, LeakyRelu, Multiply, Relu, Scaling
from pefslc.ir.value import Op, Value
from pefslc.numeric.expression import Call, Expression, Function, Variable, X, substitute
from pefslc.numeric.stages import stage_expression
from pefslc.passes.manager import Exactness

__all__ = ["MergeElementwise"]


class MergeElementwise:
    """multiply(x, apply(x, sigmoid))  ==>  apply(x, mul(x, sigmoid(x))): SiLU, HardSwish, GELU as exporters spell them.

    Whatever leads back to one tensor element by element: Apply, Relu, LeakyRelu, Clip, constants for the whole tensor.
    A sum is merged where one side is no plain tensor; other sums are integer sums.
    """

    name: ClassVar[str] = "merge-elementwise"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        done: dict[str, Op] = {}
        ops: list[Op] = []
        for original in graph.ops:
            op = _merged(original, done)
            done[op.result.name] = op
            ops.append(op)
        return graph.with_ops(ops)


def _merged(op: Op, done: dict[str, Op]) -> Op:
    if not isinstance(op, Multiply | Add):
        return op
    (lhs, left), (rhs, right) = (_traced(v, done) for v in (op.lhs, op.rhs))
    plain = isinstance(left, Variable) and isinstance(right, Variable)
    if lhs != rhs or (isinstance(op, Add) and plain):
        return op
    function = Function.MUL if isinstance(op, Multiply) else Function.ADD
    return Apply(result=op.result, input=lhs, function=Call(function, (left, right)))


def _traced(value: Value, done: dict[str, Op]) -> tuple[Value, Expression]:
    """The tensor that `value` is a function of, as far back as possible, and the function."""
    expression: Expression = X
    while True:
        op = done.get(value.name)
        elementwise = isinstance(op, Apply | Relu | Clip) or (
            isinstance(op, BiasAdd | Scaling | LeakyRelu) and op.stage.channels == 1
        )
        if not elementwise:
            return value, expression
        assert isinstance(op, Apply | Relu | LeakyRelu | Clip | BiasAdd | Scaling)
        expression = substitute(expression, stage_expression(op.stage, 0))
        value = op.input
