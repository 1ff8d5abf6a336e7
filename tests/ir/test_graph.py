"""What a graph says about itself: who reads what, its view in networkx, and changes of its outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import ModelBuilder, import_bytes
from integer_graphs import GraphBuilder, random_graph
from pefslc.ir.flow import needed_for
from pefslc.ir.graph import Graph, integer_graph, quantized_graph
from pefslc.ir.parse import parse_graph
from pefslc.passes.dead_code import RemoveDeadCode


def doubled() -> Graph:
    """x + x, of which a part is read by nothing."""
    b = GraphBuilder("g")
    x = b.input((1, 2))
    total = b.sum(x, x)
    b.clamp(total, 0, 3)
    return b.graph(total, b.rescale(total, 2))


def test_readers_count_each_operand_and_each_output() -> None:
    graph = doubled()
    x, total, idle, rescaled = graph.inputs[0].value, *(op.result for op in graph.ops)
    counts = graph.reader_counts()
    assert [counts[v.name] for v in (x, total, idle, rescaled)] == [2, 3, 0, 1]
    assert counts["no such value"] == 0


def test_networkx_has_values_and_operations_with_the_roles_of_the_operands() -> None:
    graph = doubled()
    flow = graph.to_networkx()
    total = graph.ops[0]
    assert set(flow) == {
        *(v.name for v in (graph.inputs[0].value, *(op.result for op in graph.ops))),
        *((op.mnemonic, op.result.name) for op in graph.ops),
    }
    assert flow.nodes["v1"] == {"kind": "value", "value": graph.inputs[0].value, "input": "x0", "outputs": ()}
    assert flow.nodes["v2"]["outputs"] == ("y0",)
    assert flow.nodes["sum", "v2"] == {"kind": "op", "op": total}
    assert flow.edges["v1", ("sum", "v2")]["roles"] == ("lhs", "rhs")
    assert flow.edges[("sum", "v2"), "v2"]["roles"] == ("result",)
    assert set(flow.successors("v2")) == {("clamp", "v3"), ("rescale", "v4")}


def test_needed_is_what_the_named_values_depend_on() -> None:
    graph = doubled()
    assert needed_for(graph, ["v4"]) == {"v1", "v2", "v4"}
    assert needed_for(graph, ["v3"]) == {"v1", "v2", "v3"}
    assert needed_for(graph, []) == set()


@given(st.integers(0, 2**32 - 1))
def test_dead_code_is_what_is_no_ancestor_of_an_output(seed: int) -> None:
    graph = random_graph(seed)
    graph = replace(graph, outputs=graph.outputs[:1])
    output = graph.outputs[0].value.name
    needed = {output, *nx.ancestors(graph.to_networkx(), output)}
    after = RemoveDeadCode(graph.level).run(graph)
    assert list(after.ops) == [op for op in graph.ops if op.result.name in needed]


def test_outputs_read_what_a_rewrite_put_in_their_place() -> None:
    graph = doubled()
    first, second = graph.outputs
    moved = graph.with_outputs({second.value.name: first.value})
    assert [o.value for o in moved.outputs] == [first.value, first.value]
    assert [o.name for o in moved.outputs] == ["y0", "y1"]
    assert graph.with_outputs({"v1": first.value}) is graph


def test_a_graph_is_typed_as_the_level_it_has_only() -> None:
    graph = doubled()
    assert integer_graph(graph) is graph
    with pytest.raises(AssertionError):
        quantized_graph(graph)


def test_nodes_in_the_reverse_of_their_order_are_sorted_however_many(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2)))
    for _ in range(1500):
        x = m.node("Relu", x)
    m.output(m.quant(x))
    model = m.build()
    forward = import_bytes(model, tmp_path)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert [op.mnemonic for op in import_bytes(model, tmp_path).ops] == [op.mnemonic for op in forward.ops]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: parse_graph(123), "parse_graph takes the text of a graph, as .* gives it, not int"),
        (lambda g: parse_graph(str(g).encode()), "parse_graph takes the text of a graph, as .* not bytes"),
        (lambda g: g.of_type("conv"), "of_type takes a class of operations, for example Conv, not 'conv'"),
        (lambda g: g.of_type(next(iter(g.ops))), "of_type takes a class of operations, for example Conv, not "),
        (lambda g: g.with_ops([1]), "with_ops takes operations, and one of these is int: 1"),
        (lambda g: g.with_ops([*g.ops, g.inputs[0].value]), "with_ops takes operations, and one of these is Value: "),
        (lambda g: g.with_outputs([1]), r"with_outputs takes values by the name .* not \[1\]"),
    ],
)
def test_what_a_function_of_graphs_does_not_take_is_told_by_that_function(
    call: Callable[[Graph], object], message: str
) -> None:
    graph = doubled()
    with pytest.raises(TypeError, match=message) as error:
        call(graph)
    assert error.traceback[-1].name in message
