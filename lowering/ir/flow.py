"""How values flow through a graph. networkx is imported where it is used: that takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

    from pefslc.ir.graph import Graph

__all__ = ["needed_for", "to_networkx"]


def to_networkx(graph: Graph) -> nx.DiGraph:
    """A `networkx.DiGraph` whose nodes are the values and the operations of `graph`, in execution order.

    A value's node is its name, "v3", with the attributes
        kind     "value"
        value    the `Value`
        input    the ONNX name of the input that it is, or None
        outputs  the ONNX names of the outputs that it is, a tuple
    An operation's node is its mnemonic and the name of its result, ("conv2d", "v3"), with the attributes
        kind     "op"
        op       the operation
    An edge goes from a value to each operation that reads it, and from an operation to its result. Its attribute
        roles    the names of the fields in which the operation holds the value, a tuple: ("lhs", "rhs") for x + x
    """
    import networkx as nx

    names = {i.value.name: i.name for i in graph.inputs}
    flow = nx.DiGraph(name=graph.name)
    for value in [*(i.value for i in graph.inputs), *(op.result for op in graph.ops)]:
        outputs = tuple(o.name for o in graph.outputs if o.value.name == value.name)
        flow.add_node(value.name, kind="value", value=value, input=names.get(value.name), outputs=outputs)
    for op in graph.ops:
        node = (op.mnemonic, op.result.name)
        flow.add_node(node, kind="op", op=op)
        roles: dict[str, tuple[str, ...]] = {}
        for role, value in op.named_operands:
            roles[value.name] = (*roles.get(value.name, ()), role)
        for name, fields in roles.items():
            flow.add_edge(name, node, roles=fields)
        flow.add_edge(node, op.result.name, roles=("result",))
    return flow


def needed_for(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """The names of the values that must be computed so that the values `names` are: these, and what they depend on."""
    needed = set(names)
    for op in reversed(graph.ops):  # in execution order: who reads a value stands behind it
        if op.result.name in needed:
            needed.update(v.name for v in op.operands)
    return frozenset(needed)
