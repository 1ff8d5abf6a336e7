"""Inputs and outputs of integers: the file's own codes go in and come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ends import host_module_of
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

import pefslc
from builders import ModelBuilder, normal
from pefslc.ir.interpret import quantize_input

TYPES = {
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "uint16": TensorProto.UINT16,
    "int16": TensorProto.INT16,
}


def parameters(m: ModelBuilder, scale: float, zero_point: int, kind: str) -> tuple[str, str]:
    return m.constant(scale), m.constant(zero_point, dtype=np.dtype(kind).type)


def weight(m: ModelBuilder, shape: tuple[int, ...]) -> str:
    codes = m.constant(np.rint(normal(shape, 3)), dtype=np.int8)
    return m.node("DequantizeLinear", codes, *parameters(m, 0.25, 0, "int8"))


def network(folder: Path, kind: str, zero_point: int, front: str = "", output: str = "") -> Path:
    """integers [1, 2, 4, 4] -> (front) -> DequantizeLinear of scale 1/8 -> Conv -> (QuantizeLinear to `output`)."""
    m = ModelBuilder(opset=21)
    x = m.input([1, 4, 4, 2] if front == "Transpose" else [1, 2, 4, 4], "x", TYPES[kind])
    if front == "Transpose":
        x = m.node("Transpose", x, perm=[0, 3, 1, 2])
    x = m.node("DequantizeLinear", x, *parameters(m, 0.125, zero_point, kind))
    y = m.node("Conv", x, weight(m, (3, 2, 3, 3)), m.constant([0.5, -2.0, 7.25]))
    if output:
        y = m.node("QuantizeLinear", y, *parameters(m, 2.0, 3, output))
    m.output(y)
    if output:
        m.outputs[0].type.tensor_type.elem_type = TYPES[output]
    return m.save(folder)


def compared(path: Path, kind: str, target: str = "c") -> pefslc.Program:
    """The program, whose results are those of ONNX's reference on integers of the whole range: all is dyadic."""
    program = pefslc.compile(path, target=target, check_passes=True)
    limits = np.iinfo(kind)
    shape = program.graph.inputs[0].value.type.shape
    x = np.random.default_rng(1).integers(limits.min, limits.max + 1, (8, *shape[1:])).astype(kind)
    x.reshape(-1)[:2] = limits.min, limits.max
    reference = ReferenceEvaluator(onnx.load(path))
    wanted = np.concatenate([reference.run(None, {"x": row[None]})[0] for row in x])
    (found,) = program.run(x).values()
    assert (found == wanted).all()
    assert len(np.unique(found)) > 10
    program.verify({"x": x, "y_ref64": wanted}).require()
    return program


@pytest.mark.parametrize(
    ("kind", "zero_point"), [("uint8", 0), ("uint8", 128), ("int8", -3), ("int16", 7), ("uint16", 0)]
)
def test_integers_are_the_codes(tmp_path: Path, kind: str, zero_point: int) -> None:
    program = compared(network(tmp_path, kind, zero_point), kind)
    (graph_input,) = program.graph.inputs
    assert graph_input.is_codes
    header = next(text for name, text in program.emission.files.items() if name == "model.h").decode()
    assert f"code = x, the {kind} of the model's file" in header


def test_integers_may_be_moved_first(tmp_path: Path) -> None:
    assert compared(network(tmp_path, "uint8", 128, "Transpose"), "uint8").graph.inputs[0].is_codes


def test_codes_of_the_last_quantizer_come_out(tmp_path: Path) -> None:
    program = compared(network(tmp_path, "int8", 0, output="uint8"), "int8")
    (output,) = program.graph.outputs
    assert output.map is not None
    assert (output.map.scale, output.map.offset) == ((1,), (3,))


def picture(folder: Path, *, kind: str = "uint8", weights: float = 0.25) -> Path:
    """uint8 [1, 3, 4, 4] -> Cast -> / 255, mean, std -> Quant -> Conv."""
    m = ModelBuilder()
    x = m.node("Div", m.node("Cast", m.input([1, 3, 4, 4], "x", TYPES[kind]), to=TensorProto.FLOAT), m.constant(255))
    x = m.node("Sub", x, m.constant(np.reshape([0.485, 0.456, 0.406], (1, 3, 1, 1))))
    x = m.node("Div", x, m.constant(np.reshape([0.229, 0.224, 0.225], (1, 3, 1, 1))))
    m.output(m.node("Conv", m.quant(x, 0.125, 5), m.weight(normal((4, 3, 3, 3), 0.5), weights, 4)))
    return m.save(folder)


@pytest.mark.parametrize("op", ["", "Relu", "HardSwish"])
@pytest.mark.parametrize("moved", [False, True])
def test_codes_that_come_out_are_integers_in_the_evaluation_too(tmp_path: Path, op: str, moved: bool) -> None:
    """Codes times 0.02, divided by 0.02, are no integers in float64."""
    m = ModelBuilder(opset=21)
    first, last = parameters(m, 0.0131, 3, "int8"), parameters(m, 0.02, -100, "int8")
    x = m.node("DequantizeLinear", m.node("QuantizeLinear", m.input([1, 2, 4, 4], "x"), *first), *first)
    y = m.node("QuantizeLinear", m.node(op, x) if op else x, *last)
    m.output(m.node("Transpose", y, perm=[0, 2, 3, 1]) if moved else y)
    m.outputs[0].type.tensor_type.elem_type = TensorProto.INT8
    path = m.save(tmp_path)
    x = np.random.default_rng(2).normal(0, 0.6, (20, 2, 4, 4))
    (evaluated,) = pefslc.load(path).run(x).values()
    assert np.array_equal(evaluated, np.rint(evaluated))
    program = pefslc.compile(path, target="c")
    program.verify({"x": x}).require()
    (found,) = program.run(x).values()
    np.testing.assert_array_equal(found, evaluated)


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_picture_of_bytes_that_the_model_normalizes(tmp_path: Path, target: str) -> None:
    """No number lies near a tie of the quantizer: float64 decides, too."""
    program = pefslc.compile(picture(tmp_path), target=target)
    x = np.resize(np.arange(256), (16, 3, 4, 4)).astype(np.uint8)
    program.verify(x).require()
    mean, std = (
        np.float32(v).astype(np.float64).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    wanted = np.clip(np.rint((x / 255.0 - mean) / std * 8), -16, 15)
    if target == "tensil":
        io = host_module_of(program)
        assert (io["quantize"](io["INPUTS"][0], x.astype(np.float64)) == wanted).all()
        with pytest.raises(ValueError, match="takes integers from 0 to 255"):
            io["to_driver"]({"x": x[0] / 255})
    else:
        assert (quantize_input(program.graph.inputs[0], x.astype(np.float64)) == wanted).all()


def test_numbers_that_the_input_does_not_hold_are_refused(tmp_path: Path) -> None:
    program = pefslc.compile(picture(tmp_path), target="c")
    for wrong in (0.5, -1.0, 256.0):
        with pytest.raises(pefslc.CompileError, match="is uint8 in the model"):
            program.run(np.full((1, 3, 4, 4), wrong))


def test_the_advice_on_integers_that_no_quantizer_follows_works(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.node("Cast", m.input([1, 2, 4, 4], "x", TYPES["uint8"]), to=TensorProto.FLOAT)
    m.output(m.node("Conv", x, m.weight(normal((3, 2, 3, 3), 0.5), 0.25, 4)))
    path = m.save(tmp_path)
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(path, target="c")
    hint = caught.value.problems[0].hint
    assert hint is not None
    assert hint.endswith("--input-fmt x=UQ8.0")
    program = pefslc.compile(path, target="c", input_fmt={"x": "UQ8.0"})
    x_values = np.resize(np.arange(256), (16, 2, 4, 4))
    (found,), (wanted,) = program.run(x_values).values(), pefslc.load(path).run(x_values).values()
    assert (found == wanted).all()


def test_sums_of_integers_are_refused(tmp_path: Path) -> None:
    """A sum of int8 wraps around."""
    m = ModelBuilder()
    x = m.input([1, 2, 4, 4], "x", TYPES["int8"])
    m.output(m.node("DequantizeLinear", m.node("Add", x, x), *parameters(m, 0.125, 0, "int8")))
    with pytest.raises(pefslc.CompileError, match="of integers is not supported") as caught:
        pefslc.load(m.save(tmp_path))
    assert caught.value.problems[0].code is pefslc.Code.UNSUPPORTED_OPERATOR


@pytest.mark.parametrize("op", ["Relu", "Clip"])
def test_an_inputs_integers_may_be_clipped(tmp_path: Path, op: str) -> None:
    m = ModelBuilder(opset=21)
    limits = [m.constant(v, dtype=np.int8) for v in (-7, 90)] if op == "Clip" else []
    x = m.node(op, m.input([1, 2, 4, 4], "x", TYPES["int8"]), *limits)
    x = m.node("DequantizeLinear", x, *parameters(m, 0.125, 3, "int8"))
    m.output(m.node("Conv", x, weight(m, (3, 2, 3, 3))))
    compared(m.save(tmp_path), "int8")
