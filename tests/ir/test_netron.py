"""The ONNX export that Netron shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import pefslc.numeric.staircase as staircase_module
from builders import ModelBuilder, import_bytes, lower
from pefslc.frontend import import_model
from pefslc.ir.text import type_text
from pefslc.ir.value import IntArray, RealArray, Value
from pefslc.reports.netron import to_onnx


def tensor_of(value: Value) -> str:
    """A tensor is named like the value, with its format."""
    shape = f"[{','.join(map(str, value.type.shape))}]"
    return f"%{value.name}: {type_text(value.type).removesuffix(shape)}"


@pytest.mark.parametrize("name", ["cnn_q2_3", "resnet8_q3_5", "concat_q3_4"])
def test_both_levels_are_valid_onnx_with_one_node_an_operation(name: str, models: Path) -> None:
    quantized = import_model(models / f"{name}.onnx")
    for graph in (quantized, lower(quantized)):
        content = to_onnx(graph)
        assert content == to_onnx(graph)
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model)
        kinds = [n.op_type for n in model.graph.node]
        assert kinds == ["Input", *(type(op).__name__ for op in graph.ops), "Output"]
        assert {n.domain for n in model.graph.node} == {"pefslc"}
        assert [i.name for i in model.graph.input] == [i.name for i in graph.inputs]
        assert [o.name for o in model.graph.output] == [o.name for o in graph.outputs]
        shapes = {t.name: tuple(d.dim_value for d in t.type.tensor_type.shape.dim) for t in model.graph.value_info}
        for op in graph.ops:
            assert shapes[tensor_of(op.result)] == op.result.type.shape


def test_nodes_say_what_the_operation_does(models: Path) -> None:
    graph = lower(import_model(models / "cnn_q2_3.onnx"))
    model = onnx.load_from_string(to_onnx(graph))
    nodes = {n.op_type: n for n in reversed(model.graph.node)}
    conv = {a.name: onnx.helper.get_attribute_value(a) for a in nodes["Conv2d"].attribute}
    assert conv["kernel_shape"] == [3, 3]
    assert conv["accumulator_bits"] == 9
    assert conv["origin"].decode().startswith("/b1/conv/Conv (Conv)")
    assert conv["type"].decode().startswith("[-250..246]*(2^-6)")
    requantize = {a.name: onnx.helper.get_attribute_value(a) for a in nodes["Requantize"].attribute}
    assert requantize["codes"] == b"0..31"
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    first = graph.ops[0]
    assert weights[f"%{first.result.name}.weight"].dtype == np.int8
    assert (weights[f"%{first.result.name}.weight"] == first.weight.data).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["cnn_q2_3", "resnet8_q3_5", "concat_q3_4"])
def test_inputs_are_named_after_the_fields_and_edges_have_formats(name: str, models: Path) -> None:
    quantized = import_model(models / f"{name}.onnx")
    for graph in (quantized, lower(quantized)):
        model = onnx.load_from_string(to_onnx(graph))
        names = {f.name: list(f.input) for f in model.functions}
        assert {f.domain for f in model.functions} == {"pefslc"}
        assert set(names) == {n.op_type for n in model.graph.node}
        by_name = {n.name: n for n in model.graph.node}
        arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for op in graph.ops:
            node = by_name[f"%{op.result.name}"]
            given = dict(zip(names[node.op_type], node.input, strict=False))
            for i, (field, operand) in enumerate(op.named_operands):
                assert given[f"inputs{i}" if field == "inputs" else field] == tensor_of(operand)
            for field in op.__dataclass_fields__:
                content = getattr(op, field)
                if isinstance(content, IntArray | RealArray):
                    assert (arrays[given[field]] == content.data).all()
                elif content is None and field in given:
                    assert given[field] == ""
        denotations = {t.name: t.type.denotation for t in model.graph.value_info}
        assert all(tensor.endswith(f": {text}") for tensor, text in denotations.items())


def test_a_node_shows_its_stages_as_the_text_does(tmp_path: Path) -> None:
    b = ModelBuilder()
    x = b.quant(b.input((1, 2, 4, 4)), 0.125, 5)
    b.output(b.quant(b.node("Clip", b.node("Relu", x), b.constant(0), b.constant(1)), 0.125, 5))
    model = onnx.load_from_string(to_onnx(lower(import_bytes(b, tmp_path))))
    quantized = onnx.load_from_string(to_onnx(import_bytes(b, tmp_path)))
    assert [n.op_type for n in quantized.graph.node if n.op_type == "Relu"]
    (requantize,) = [n for n in model.graph.node if n.op_type == "Requantize"]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in requantize.attribute}
    assert attributes["stages"] == [b"relu", b"clip(0, 1)"]


def test_a_million_thresholds_are_not_drawn(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, some = models / "cnn_q2_3.onnx", b".thresholds"
    assert some in to_onnx(lower(import_model(path)))
    monkeypatch.setattr(staircase_module, "_MOST_LISTED", 0)
    content = to_onnx(lower(import_model(path)))
    assert some not in content
    nodes = {n.op_type: n for n in reversed(onnx.load_from_string(content).graph.node)}
    requantize = {a.name: onnx.helper.get_attribute_value(a) for a in nodes["Requantize"].attribute}
    assert requantize["stages"] == [b"affine", b"relu"]


def test_names_that_look_like_ours_and_names_with_anything_in_them_are_kept_apart(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 2, 2], "%v2"))
    m.output(m.node("Relu", x, output='a\n"b"%v3', name="%v3"), [1, 2, 2, 2])
    graph = import_bytes(m, tmp_path)
    model = onnx.load_from_string(to_onnx(graph))
    onnx.checker.check_model(model)
    assert model.graph.input[0].name == "%v2"
    names = [n.output[0] for n in model.graph.node]
    assert len(set(names)) == len(names)
