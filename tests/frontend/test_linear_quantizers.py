"""QuantizeLinear, Clip, DequantizeLinear: every integer type, against exact rationals and against the same QONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from builders import ModelBuilder, import_bytes, lower
from oracle import evaluate_model
from pefslc.ir.interpret import run
from pefslc.ir.quantized import Quantize, QuantizedConstant
from pefslc.numeric.format import Quantization

SHAPE = (1, 3, 4, 5)
TYPES = {
    "int4": (TensorProto.INT4, -8, 7),
    "uint4": (TensorProto.UINT4, 0, 15),
    "int8": (TensorProto.INT8, -128, 127),
    "uint8": (TensorProto.UINT8, 0, 255),
    "int16": (TensorProto.INT16, -32768, 32767),
    "uint16": (TensorProto.UINT16, 0, 65535),
}


class QdqBuilder(ModelBuilder):
    """QDQ pairs of integers of any type, with a Clip to the type's own range for the oracle, which knows no types."""

    def integers(self, kind: str, values: object, name: str) -> str:
        array = np.asarray(values)
        code = TYPES[kind][0] if kind in TYPES else TensorProto.INT32
        self.initializers.append(helper.make_tensor(name, code, array.shape, array.reshape(-1).tolist()))
        return name

    def pair(
        self, x: str, kind: str, scale: object, zero_point: object = 0, clip: tuple[int, int] | None = None,
        axis: int = 1,
    ) -> str:  # fmt: skip
        n = len(self.nodes)
        constants = self.constant(scale), self.integers(kind, zero_point, f"z{n}")
        codes = self.node("QuantizeLinear", x, *constants, axis=axis)
        limits = [self.integers(kind, v, f"l{n}_{i}") for i, v in enumerate(clip or TYPES[kind][1:])]
        return self.node("DequantizeLinear", self.node("Clip", codes, *limits), *constants, axis=axis)

    def stored(self, kind: str, codes: object, scale: object, zero_point: object = 0, axis: int = 0) -> str:
        n = len(self.nodes)
        constants = self.constant(scale), self.integers(kind, zero_point, f"z{n}")
        return self.node("DequantizeLinear", self.integers(kind, codes, f"w{n}"), *constants, axis=axis)


def equal_to_the_definition(m: ModelBuilder, folder: Path, shape: tuple[int, ...] = SHAPE) -> None:
    model = m.build()
    quantized = import_bytes(model, folder)
    graph = lower(quantized)
    data = np.random.default_rng(3).normal(0, 2, shape).astype(np.float32)
    expected = evaluate_model(model, data).astype(float)
    for level in (quantized, graph):
        (got,) = run(level, data).values()
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("zero_point", [0, 3])
@pytest.mark.parametrize("kind", TYPES)
def test_activations_of_every_type(kind: str, zero_point: int, tmp_path: Path) -> None:
    """A tie with an odd zero point rounds differently in QONNX: here the zero point is added after rounding."""
    m = QdqBuilder(opset=21)
    x = m.pair(m.input(SHAPE), kind, 0.25 if "16" not in kind else 2**-11, zero_point)
    m.output(m.pair(m.node("Relu", x), kind, 0.5, zero_point))
    equal_to_the_definition(m, tmp_path)


@pytest.mark.parametrize("kind", TYPES)
def test_weights_of_every_type(kind: str, tmp_path: Path) -> None:
    _, low, high = TYPES[kind]
    rng = np.random.default_rng(1)
    m = QdqBuilder(opset=21)
    x = m.pair(m.input(SHAPE), "int8", 0.125)
    weight = m.stored(kind, rng.integers(low, high + 1, (4, 3, 2, 2)), np.float32([0.1, 0.25, 0.3, 1]), [0] * 4)
    bias = m.stored("int32", [1, -5, 100, 7], 2**-9)
    m.output(m.node("Conv", x, weight, bias))
    equal_to_the_definition(m, tmp_path)


@pytest.mark.parametrize("zero_points", [[2, 2], [1, -3]])
def test_weights_with_zero_points(zero_points: list[int], tmp_path: Path) -> None:
    m = QdqBuilder(opset=13)
    x = m.pair(m.input(SHAPE), "uint8", 0.125, 7)
    codes = np.random.default_rng(2).integers(-128, 128, (2, 3, 3, 3))
    m.output(m.node("Conv", x, m.stored("int8", codes, [0.5, 0.25], zero_points), pads=[1] * 4))
    equal_to_the_definition(m, tmp_path)


def test_a_matrix_with_its_scales_along_the_columns(tmp_path: Path) -> None:
    m = QdqBuilder(opset=13)
    x = m.pair(m.input((1, 3)), "int8", 0.125)
    codes = np.random.default_rng(2).integers(-128, 128, (3, 4))
    m.output(m.node("Gemm", x, m.stored("int8", codes, [1, 0.5, 0.3, 0.25], [0] * 4, axis=1)))
    equal_to_the_definition(m, tmp_path, (1, 3))


def test_a_clip_that_is_a_format_narrows_the_quantizer(tmp_path: Path) -> None:
    formats = {(-16, 15): "Q2.3", (-15, 15): "Q2.3n", (0, 31): "UQ2.3", (0, 30): "UQ2.3n"}
    for clip, text in formats.items():
        m = QdqBuilder(opset=13)
        m.output(m.pair(m.input(SHAPE), "int8", 0.125, clip=clip))
        (op,) = import_bytes(m, tmp_path).ops
        assert isinstance(op, Quantize)
        assert str(op.result.type.element) == text


def test_a_clip_that_is_no_format_stays_a_clip(tmp_path: Path) -> None:
    m = QdqBuilder(opset=13)
    x = m.pair(m.input(SHAPE), "int8", 0.125)
    m.output(m.pair(x, "int8", 0.25, 1, clip=(-3, 9)))
    equal_to_the_definition(m, tmp_path)


def test_clipped_weights_have_the_width_of_the_clip(tmp_path: Path) -> None:
    m = QdqBuilder(opset=13)
    x = m.pair(m.input(SHAPE), "int8", 0.125)
    limits = m.integers("int8", -2, "low"), m.integers("int8", 1, "high")
    clipped = m.node("Clip", m.integers("int8", np.full((1, 3, 1, 1), 9), "w"), *limits)
    m.output(m.node("Conv", x, m.node("DequantizeLinear", clipped, m.constant(0.5))))
    (weight,) = import_bytes(m, tmp_path).of_type(QuantizedConstant)
    assert isinstance(weight.result.type.element, Quantization)
    assert (weight.result.type.element.bits, weight.codes.data.max()) == (2, 1)


def test_a_quantize_linear_without_zero_point(tmp_path: Path) -> None:
    for attributes, text in (({}, "UQ5.3"), ({"output_dtype": TensorProto.INT16}, "Q13.3")):
        m = ModelBuilder(opset=21)
        scale = m.constant(0.125)
        m.output(m.node("DequantizeLinear", m.node("QuantizeLinear", m.input(SHAPE), scale, **attributes), scale))
        (op,) = import_bytes(m, tmp_path).ops
        assert str(op.result.type.element) == text


def test_the_contributed_operators_mean_the_same(tmp_path: Path) -> None:
    m = QdqBuilder(opset=13)
    m.output(m.pair(m.input(SHAPE), "int8", 0.125, 5))
    expected = run(lower(import_bytes(m, tmp_path)), np.linspace(-3, 3, 60).reshape(SHAPE))
    model = m.build()
    for node in model.graph.node:
        if node.op_type != "Clip":
            node.domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    got = run(lower(import_bytes(model, tmp_path)), np.linspace(-3, 3, 60).reshape(SHAPE))
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


def test_numpy_helper_reads_four_bits() -> None:
    """What the importer rests on."""
    tensor = helper.make_tensor("w", TensorProto.INT4, [3], [1, -8, 7])
    assert numpy_helper.to_array(tensor).astype(np.int64).tolist() == [1, -8, 7]


@pytest.mark.parametrize("quantized", [("scale",), ("scale", "bias"), ("scale", "bias", "mean", "variance")])
def test_batch_norms_with_quantized_parameters(quantized: tuple[str, ...], tmp_path: Path) -> None:
    """ONNX Runtime quantizes the scale of one that it does not fold: behind a dense layer, say."""
    m = QdqBuilder()
    parameters = []
    for name, values in (
        ("scale", [70, -30, 12]),
        ("bias", [-9, 30, 4]),
        ("mean", [2, 8, -5]),
        ("variance", [3, 9, 99]),
    ):
        step = np.float32(0.0173)
        if name in quantized:
            parameters.append(m.stored("int8", values, step))
        else:
            parameters.append(m.constant(np.array(values) * 0.0173))
    x = m.node("BatchNormalization", m.pair(m.input(SHAPE), "int8", 0.0371), *parameters, epsilon=1e-5)
    m.output(m.pair(x, "uint8", 0.0113, 112))
    equal_to_the_definition(m, tmp_path)
