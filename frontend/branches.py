"""If with a condition that is known: torch exports squeeze(dim) and its like as a branch on a shape.

The branch taken is imported in the place of the node; the other one may hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import onnx_graphsurgeon as gs

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node, constant_array

__all__ = ["hand_out", "names_read", "taken_branch"]

_T = TypeVar("_T")


def names_read(node: gs.Node) -> Iterator[str]:
    """The names of the tensors that a node reads, those that its branches read of the graph around, too."""
    yield from (tensor.name for tensor in node.inputs)
    for branch in node.attrs.values():
        if isinstance(branch, gs.Graph):
            yield from (tensor.name for tensor in branch.outputs)
            for inner in branch.nodes:
                yield from names_read(inner)


def taken_branch(node: Node) -> gs.Graph:
    """The branch of an If that its condition takes. Raises CompileError where that is computed at run time."""
    condition = constant_array(node.inputs[0]) if node.has_input(0) else None
    if condition is None or condition.size != 1 or condition.dtype.kind != "b":
        raise node.fault(
            Code.CONTROL_FLOW,
            f"control flow ({node.op_type} with a subgraph)",
            hint="export without data-dependent branches",
        )
    name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
    branch = node.raw.attrs.get(name)
    if not isinstance(branch, gs.Graph) or len(branch.outputs) != len(node.raw.outputs):
        raise node.fault(Code.DAMAGED_MODEL, f"the {name} of the If is no graph of its outputs", hint="export it again")
    return branch


def hand_out(builder: Builder, node: Node, branch: gs.Graph) -> None:
    """What the branch made is what the If makes."""
    for outer, inner in zip(node.raw.outputs, branch.outputs, strict=True):
        array = constant_array(inner)
        if array is not None:
            outer.to_constant(array)
        _also(builder.values, inner.name, outer.name)
        _also(builder.integers, inner.name, outer.name)
        _also(builder.integer_tensors, inner.name, outer.name)
        _also(builder.tails, inner.name, outer.name)
        for names in (builder.poisoned, builder.dynamic):
            if inner.name in names:
                names.add(outer.name)


def _also(known: dict[str, _T], inner: str, outer: str) -> None:
    if inner in known:
        known[outer] = known[inner]
