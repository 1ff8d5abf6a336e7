"""If with a known condition is the branch that it takes; any other is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from builders import ModelBuilder, import_bytes, normal, refusal_of
from pefslc.ir.graph import Graph

SHAPE = (1, 2, 4, 1)


def branch(name: str, *nodes: onnx.NodeProto, **constants: object) -> onnx.GraphProto:
    """Its result is `name`."""
    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    return helper.make_graph(
        nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)], initializers
    )


def node(op: str, x: str, y: str, *more: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, [x, *more], [y], name=f"{op} {y}", **attributes)


def imported(folder: Path, condition: bool | str, then: onnx.GraphProto, other: onnx.GraphProto) -> Graph:
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE), output="q")
    test = condition if isinstance(condition, str) else m.constant(condition, dtype=np.bool_)
    m.output(m.quant(m.node("If", test, then_branch=then, else_branch=other, name="if", output="y")))
    assert x == "q"
    return import_bytes(m, folder)


def kinds(graph: Graph) -> list[str]:
    return [op.mnemonic for op in graph.ops]


@pytest.mark.parametrize(("condition", "want"), [(True, "relu"), (False, "scaling")])
def test_a_constant_condition_takes_its_branch(condition: bool, want: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, condition, branch("a", node("Relu", "q", "a")), branch("b", node("Neg", "q", "b")))
    assert kinds(graph) == ["quantize", want, "quantize"]


def test_the_branch_that_is_not_taken_may_hold_anything(tmp_path: Path) -> None:
    graph = imported(tmp_path, True, branch("a", node("Relu", "q", "a")), branch("b", node("Sin", "q", "b")))
    assert kinds(graph) == ["quantize", "relu", "quantize"]


def test_a_branch_reads_constants_of_its_own_and_the_graph_around(tmp_path: Path) -> None:
    then = branch("a", node("Relu", "q", "r"), node("Add", "r", "a", "offset"), offset=np.float32(0.5))
    assert kinds(imported(tmp_path, True, then, branch("b", node("Neg", "q", "b")))) == [
        "quantize", "relu", "bias_add", "quantize",
    ]  # fmt: skip


def test_a_branch_in_a_branch(tmp_path: Path) -> None:
    inner = node(
        "If",
        "yes",
        "a",
        then_branch=branch("c", node("Relu", "q", "c")),
        else_branch=branch("d", node("Neg", "q", "d")),
    )
    then = branch("a", inner, yes=np.array(True))
    assert kinds(imported(tmp_path, True, then, branch("b", node("Neg", "q", "b")))) == ["quantize", "relu", "quantize"]


def test_torchs_squeeze_of_an_axis_whose_size_is_asked_for(tmp_path: Path) -> None:
    """As torch.onnx.export writes x.squeeze(3) where it knew no shape."""
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE), output="q")
    size = m.node("Gather", m.node("Shape", x), m.constant([3], dtype=np.int64))
    one = m.node("Equal", size, m.constant([1], dtype=np.int64))
    then = branch("a", node("Squeeze", "q", "a", "axes"), axes=np.array([3]))
    m.output(m.node("If", one, then_branch=then, else_branch=branch("b", node("Identity", "q", "b"))))
    assert import_bytes(m, tmp_path).outputs[0].shape == (1, 2, 4)


def test_nodes_that_only_a_branch_reads_are_kept_and_come_first(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.node("If", m.constant(True, dtype=np.bool_), then_branch=branch("a", node("Neg", "r", "a")),
           else_branch=branch("b", node("Neg", "r", "b")), output="y")  # fmt: skip
    m.node("Relu", m.quant(m.input(SHAPE)), output="r")
    m.output(m.quant("y"))
    assert kinds(import_bytes(m, tmp_path)) == ["quantize", "relu", "scaling", "quantize"]


def test_a_weight_quantized_inside_a_branch(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.quant(m.input((1, 2, 4, 3)), output="q")
    weight = m.weight(normal((2, 2, 1, 1)))
    then = branch("a", node("Conv", "q", "a", weight))
    m.output(
        m.quant(
            m.node(
                "If",
                m.constant(True, dtype=np.bool_),
                then_branch=then,
                else_branch=branch("b", node("Relu", "q", "b")),
            )
        )
    )
    assert "conv" in kinds(import_bytes(m, tmp_path))


def text(folder: Path, condition: bool | str, then: onnx.GraphProto) -> str:
    m = ModelBuilder()
    m.quant(m.input(SHAPE), output="q")
    if isinstance(condition, str):
        m.node("Greater", "q", m.constant(0.0), output=condition)
    test = condition if isinstance(condition, str) else m.constant(condition, dtype=np.bool_)
    m.output(m.quant(m.node("If", test, then_branch=then, else_branch=branch("b", node("Neg", "q", "b")), name="if")))
    return refusal_of(m, folder)


def test_what_is_refused(tmp_path: Path) -> None:
    relu = branch("a", node("Relu", "q", "a"))
    assert "error[PEF0205]: control flow (If with a subgraph)\n  at:   if (If)" in text(tmp_path, "computed", relu)
    twice = branch("a", node("Relu", "q", "a"), node("Neg", "q", "a"))
    assert "error[PEF0203]: a branch writes tensor 'a', which is there already" in text(tmp_path, True, twice)
    shadow = branch("q", node("Relu", "x", "q"))
    assert "error[PEF0203]: a branch writes tensor 'q', which is there already" in text(tmp_path, True, shadow)
    lost = branch("a", node("Relu", "nowhere", "a"))
    assert "error[PEF0204]: input 'nowhere' of a branch is produced by no node" in text(tmp_path, True, lost)
    unsupported = branch("a", node("Sin", "q", "a"))
    assert "error[PEF0401]: operator Sin is not supported\n  at:   Sin a (Sin)" in text(tmp_path, True, unsupported)
    loop = branch("a", node("Loop", "q", "a", body=branch("c", node("Relu", "q", "c"))))
    assert "error[PEF0205]: control flow (Loop with a subgraph)" in text(tmp_path, True, loop)
