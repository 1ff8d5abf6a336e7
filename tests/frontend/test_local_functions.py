"""Functions of the model are what they stand for; those that would hang or crash an inliner are refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import AttributeProto, helper, numpy_helper

from builders import ModelBuilder, import_bytes, normal, refusal_of
from pefslc.ir.text import print_graph
from pefslc.ir.value import Op

SHAPE = (1, 2, 4, 3)
WEIGHT = normal((2, 2, 3, 3))


def model(*functions: onnx.FunctionProto, calls: tuple[str, ...] = ("Block",), **attributes: object) -> onnx.ModelProto:
    """A network that calls functions of domain `local` between its quantizers."""
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE))
    for name in calls:
        x = m.node(name, x, domain="local", **attributes)
    m.output(m.quant(x))
    proto = m.build()
    proto.functions.extend(functions)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    return proto


def function(name: str, nodes: list[onnx.NodeProto], attributes: tuple[str, ...] = (), opset: int = 13) -> (
    onnx.FunctionProto
):  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["b"], nodes, opsets, attributes)


def call(name: str, x: str = "a", y: str = "b") -> onnx.NodeProto:
    return helper.make_node(name, [x], [y], domain="local")


RELU = helper.make_node("Relu", ["a"], ["b"])


def without_names(proto: onnx.ModelProto, folder: Path) -> list[tuple[type[Op], str]]:
    return [(type(op), str(op.result.type)) for op in import_bytes(proto, folder).ops]


def plain(folder: Path, *ops: str, **attributes: object) -> list[tuple[type[Op], str]]:
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE))
    for op in ops:
        x = m.node(op, x, **attributes)
    m.output(m.quant(x))
    return without_names(m.build(), folder)


def test_a_function_is_what_it_stands_for(tmp_path: Path) -> None:
    assert without_names(model(function("Block", [RELU])), tmp_path) == plain(tmp_path, "Relu")


def test_functions_call_functions_and_are_called_twice(tmp_path: Path) -> None:
    both = model(function("Block", [call("Inner")]), function("Inner", [RELU]), calls=("Block", "Inner"))
    assert without_names(both, tmp_path) == plain(tmp_path, "Relu", "Relu")


def test_an_attribute_of_the_call_reaches_the_node_that_refers_to_it(tmp_path: Path) -> None:
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT))
    proto = model(function("Block", [leaky], ("slope",)), slope=0.25)
    m = ModelBuilder()
    m.output(m.quant(m.node("LeakyRelu", m.quant(m.input(SHAPE)), alpha=0.25)))
    got, want = (print_graph(import_bytes(p, tmp_path)).split("leaky_relu")[1] for p in (proto, m.build()))
    assert got.split("//")[0] == want.split("//")[0]


def test_a_function_that_nothing_calls_may_hold_anything(tmp_path: Path) -> None:
    never = function("Never", [helper.make_node("Sin", ["a"], ["b"])])
    assert without_names(model(function("Block", [RELU]), never), tmp_path) == plain(tmp_path, "Relu")
    assert without_names(model(never, calls=()), tmp_path) == plain(tmp_path)


def test_a_convolution_in_a_function_reads_the_weight_that_it_is_given(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 13)]
    body = [helper.make_node("Conv", ["x", "w"], ["y"])]
    m = ModelBuilder()
    m.output(m.quant(m.node("Layer", m.quant(m.input(SHAPE)), m.weight(WEIGHT), domain="local")))
    proto = m.build()
    proto.functions.append(helper.make_function("local", "Layer", ["x", "w"], ["y"], body, opsets))
    n = ModelBuilder()
    n.output(n.quant(n.node("Conv", n.quant(n.input(SHAPE)), n.weight(WEIGHT))))
    assert without_names(proto, tmp_path) == without_names(n.build(), tmp_path)


def doubled(name: str, inner: str) -> onnx.FunctionProto:
    return function(name, [call(inner, "a", "c"), call(inner, "c", "b")])


def of_constants(megabytes: int) -> onnx.FunctionProto:
    value = numpy_helper.from_array(normal((megabytes, 1 << 17)), "value")
    constant = helper.make_node("Constant", [], ["c"], value=value)
    return function("Block", [constant, RELU])


@pytest.mark.parametrize(
    ("functions", "calls", "message"),
    [
        ([function("Block", [call("Block")])], ("Block",), "model-local function 'Block' calls itself"),
        (
            [function("Block", [call("Other")]), function("Other", [call("Block")])],
            ("Block",),
            "calls itself",
        ),
        (
            [doubled(f"F{i}", f"F{i + 1}") for i in range(60)] + [function("F60", [RELU])],
            ("F0",),
            "bytes written out; at most 67,108,864",
        ),
        (
            [function(f"F{i}", [call(f"F{i + 1}")]) for i in range(400)] + [function("F400", [RELU])],
            ("F0",),
            "calls functions that call functions, more than 200 deep",
        ),
        ([of_constants(8)], ("Block",) * 9, "bytes written out; at most 67,108,864"),
        ([function("Block", [RELU], opset=12)], ("Block",), "model-local function 'Block' asks for another opset"),
    ],
)
def test_functions_that_cannot_be_written_out(
    functions: list[onnx.FunctionProto], calls: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    text = refusal_of(model(*functions, calls=calls), tmp_path)
    assert text.startswith("error[PEF0108]: model-local function ")
    assert message in text
    assert text.count("error[") == 1


def test_a_call_with_more_than_the_function_takes(tmp_path: Path) -> None:
    proto = model(function("Block", [RELU]))
    next(n for n in proto.graph.node if n.op_type == "Block").input.append("x")
    assert "has 1 inputs and 1 outputs, its call 2 and 1" in refusal_of(proto, tmp_path)
