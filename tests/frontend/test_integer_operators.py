"""QOperator models and products of integers: their definition in exact rationals is what is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from builders import ModelBuilder, import_bytes, lower, refusal_of
from integer_oracle import evaluate_integer_model
from pefslc.frontend import import_model
from pefslc.ir.interpret import run
from pefslc.ir.quantized import Quantize

MICROSOFT = "com.microsoft"
FILES = Path(__file__).parent.parent / "data" / "qoperator"
ZEROS = {np.uint8: 113, np.int8: -5}


class IntegerBuilder(ModelBuilder):
    """Every tensor of codes goes with its scale and zero point: `x` is the names of the three."""

    kind: type = np.uint8

    def parameters(self, scale: object, zero_point: int | None = None) -> tuple[str, str]:
        zero = ZEROS[self.kind] if zero_point is None else zero_point
        return self.constant(scale), self.constant(zero, dtype=self.kind)

    def start(self, shape: tuple[int, ...], scale: float = 0.0371) -> tuple[str, str, str]:
        parameters = self.parameters(scale)
        return self.node("QuantizeLinear", self.input(shape), *parameters), *parameters

    def weights(self, shape: tuple[int, ...], scale: object, zero_point: object = 0) -> tuple[str, str, str]:
        limits = np.iinfo(self.kind)
        codes = np.random.default_rng(len(shape)).integers(limits.min, limits.max + 1, shape)
        zero = self.constant(zero_point, dtype=self.kind)
        return self.constant(codes, dtype=self.kind), self.constant(scale), zero

    def bias(self, outputs: int) -> str:
        return self.constant(np.random.default_rng(0).integers(-3000, 3000, outputs), dtype=np.int32)

    def apply(
        self, op: str, *operands: str, scale: float, domain: str = MICROSOFT, bias: str = "", **attrs: object
    ) -> tuple[str, str, str]:
        """`operands`, the result's parameters, the bias where the operator wants it."""
        parameters = self.parameters(scale)
        inputs = {
            "QGemm": (*operands, bias, *parameters),
            "QLinearConcat": (*parameters, *operands),
        }.get(op, (*operands, *parameters, *([bias] if bias else [])))
        return self.node(op, *inputs, domain=domain, **attrs), *parameters

    def end(self, x: tuple[str, str, str]) -> None:
        self.output(self.node("DequantizeLinear", *x))

    def build(self):  # type: ignore[no-untyped-def]
        model = super().build()
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return model


@pytest.fixture(params=[np.uint8, np.int8], ids=["uint8", "int8"])
def m(request: pytest.FixtureRequest) -> IntegerBuilder:
    builder = IntegerBuilder()
    builder.kind = request.param
    return builder


def equal_to_the_definition(m: IntegerBuilder, folder: Path, shape: tuple[int, ...]) -> None:
    model = m.build()
    quantized = import_bytes(model, folder)
    data = np.random.default_rng(3).normal(0, 2.5, shape).astype(np.float32)
    expected = evaluate_integer_model(model, data).astype(float)
    assert len(np.unique(expected)) > 2, "a test of hardly any codes"
    for level in (quantized, lower(quantized)):
        (got,) = run(level, data).values()
        np.testing.assert_array_equal(got, expected)


SCALES = [0.011, [0.011, 0.003, 0.0171, 0.0089]]


@pytest.mark.parametrize("scale", SCALES, ids=["tensor", "channel"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_qlinear_conv_with_zero_points(m: IntegerBuilder, scale: object, has_bias: bool, tmp_path: Path) -> None:
    x = m.start((1, 3, 5, 5))
    weight = m.weights((4, 3, 3, 3), scale, 7 if scale is SCALES[0] else [7] * 4)
    bias = m.bias(4) if has_bias else ""
    y = m.apply("QLinearConv", *x, *weight, scale=0.31, bias=bias, domain="", pads=[1, 0, 1, 1], strides=[1, 2])
    m.end(y)
    equal_to_the_definition(m, tmp_path, (1, 3, 5, 5))


def test_weights_with_a_zero_point_for_each_channel(m: IntegerBuilder, tmp_path: Path) -> None:
    weight = m.weights((4, 3, 2, 2), SCALES[1], [1, 2, 0, 9])
    m.end(m.apply("QLinearConv", *m.start((1, 3, 4, 4)), *weight, scale=0.31, domain=""))
    equal_to_the_definition(m, tmp_path, (1, 3, 4, 4))


def test_a_depthwise_convolution_of_a_sequence_by_onnxruntimes_operator(m: IntegerBuilder, tmp_path: Path) -> None:
    weight = m.weights((4, 1, 3), SCALES[1], [0] * 4)
    x = m.start((1, 4, 9))
    y = m.apply("QLinearConv", *x, *weight, scale=0.31, bias=m.bias(4), group=4, dilations=[2], channels_last=0)
    m.end(y)
    equal_to_the_definition(m, tmp_path, (1, 4, 9))


@pytest.mark.parametrize("scale", [0.011, SCALES[1], [SCALES[1]]], ids=["tensor", "columns", "row of columns"])
def test_qlinear_matmul(m: IntegerBuilder, scale: object, tmp_path: Path) -> None:
    zeros = np.zeros_like(scale, dtype=int)
    m.end(m.apply("QLinearMatMul", *m.start((1, 6)), *m.weights((6, 4), scale, zeros), scale=0.31, domain=""))
    equal_to_the_definition(m, tmp_path, (1, 6))


@pytest.mark.parametrize("scale", SCALES, ids=["tensor", "channel"])
@pytest.mark.parametrize("is_transposed", [0, 1])
@pytest.mark.parametrize("has_bias", [True, False])
def test_qgemm(m: IntegerBuilder, scale: object, is_transposed: int, has_bias: bool, tmp_path: Path) -> None:
    weight = m.weights((4, 6) if is_transposed else (6, 4), scale, 3 if scale is SCALES[0] else [0] * 4)
    bias = m.bias(4) if has_bias else ""
    m.end(m.apply("QGemm", *m.start((1, 6)), *weight, scale=0.31, bias=bias, transB=is_transposed, alpha=1.0))
    equal_to_the_definition(m, tmp_path, (1, 6))


@pytest.mark.parametrize("alpha", [0.5, 0.1, -1.3])
def test_qgemm_with_alpha_scales_its_bias_too(m: IntegerBuilder, alpha: float, tmp_path: Path) -> None:
    x, weight = m.start((1, 6)), m.weights((6, 4), 0.011)
    m.end(m.apply("QGemm", *x, *weight, scale=0.31 * abs(alpha), bias=m.bias(4), alpha=alpha))
    equal_to_the_definition(m, tmp_path, (1, 6))


def test_qgemm_without_a_scale_of_its_result_is_not_quantized(m: IntegerBuilder, tmp_path: Path) -> None:
    x, weight = m.start((1, 6), 0.03125), m.weights((4, 6), 0.0078125, 3)
    m.output(m.node("QGemm", *x, *weight, m.bias(4), domain=MICROSOFT, transB=1))
    model = m.build()
    data = np.random.default_rng(3).normal(0, 2, (1, 6)).astype(np.float32)
    (got,) = run(lower(import_bytes(model, tmp_path)), data).values()
    np.testing.assert_array_equal(got, evaluate_integer_model(model, data).astype(float))


ONE_OPERAND = {
    "QLinearAveragePool": {"kernel_shape": [2, 2], "strides": [2, 1], "channels_last": 0},
    "QLinearGlobalAveragePool": {"channels_last": 0},
    "QLinearReduceMean": {"axes": [2, 3], "keepdims": 0},
    "QLinearLeakyRelu": {"alpha": 0.1},
    "QLinearSigmoid": {},
}


@pytest.mark.parametrize("op", ONE_OPERAND)
def test_operators_of_one_tensor(op: str, m: IntegerBuilder, tmp_path: Path) -> None:
    shape = (1, 12, 3, 3)
    m.end(m.apply(op, *m.start(shape), scale=0.0043 if op == "QLinearSigmoid" else 0.021, **ONE_OPERAND[op]))
    equal_to_the_definition(m, tmp_path, shape)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul", "QLinearConcat"])
def test_operators_of_two_tensors(op: str, m: IntegerBuilder, tmp_path: Path) -> None:
    """Scales that are powers of two apart; those of a residual addition with any scales are another test's."""
    shape = (1, 4, 3, 3)
    x = m.start(shape, 0.03125)
    y = m.apply("QLinearConv", *x, *m.weights((4, 4, 1, 1), 0.0078125, 3), scale=0.0625, domain="")
    m.end(m.apply(op, *x, *y, scale=0.125, **({"axis": 1} if op == "QLinearConcat" else {})))
    equal_to_the_definition(m, tmp_path, shape)


def test_a_tensor_that_two_operators_and_the_file_read_is_quantized_once(m: IntegerBuilder, tmp_path: Path) -> None:
    x = m.start((1, 4, 3, 3), 0.03125)
    y = m.apply("QLinearConv", *x, *m.weights((4, 4, 1, 1), 0.0078125, 3), scale=0.0625, domain="")
    z = m.apply("QLinearAdd", *x, *y, scale=0.125)
    m.output(m.node("Add", m.node("DequantizeLinear", *z), m.node("DequantizeLinear", *x)))
    quantizers = [op for op in import_bytes(m, tmp_path).ops if isinstance(op, Quantize)]
    assert len(quantizers) == 3


def test_parameters_that_the_file_computes_from_constants(m: IntegerBuilder, tmp_path: Path) -> None:
    """Exporters write a scale that two tensors share once, and Identity for the other."""
    x = m.start((1, 3, 4, 4))
    codes, scale, zero = m.weights((4, 3, 2, 2), 0.011)
    weight = m.node("Identity", codes), m.node("Identity", scale), zero
    m.end(m.apply("QLinearConv", *x, *weight, scale=0.31, domain="", bias=m.bias(4)))
    equal_to_the_definition(m, tmp_path, (1, 3, 4, 4))


def test_a_missing_zero_point_is_0_of_the_type_of_the_operand(m: IntegerBuilder, tmp_path: Path) -> None:
    shape = (1, 2, 3, 3)
    x = m.start(shape, 0.03125)
    scale = m.constant(0.0625)
    y = m.node("QLinearLeakyRelu", *x, scale, domain=MICROSOFT, alpha=0.5)
    m.output(m.node("DequantizeLinear", y, scale))
    (*_, op) = [op for op in import_bytes(m, tmp_path).ops if isinstance(op, Quantize)]
    assert str(op.result.type.element) == {np.uint8: "UQ4.4", np.int8: "Q4.4"}[m.kind]


@pytest.mark.parametrize("has_quantizer_behind", [True, False])
@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger"])
def test_products_of_integers(op: str, has_quantizer_behind: bool, m: IntegerBuilder, tmp_path: Path) -> None:
    shape, weight_shape = ((1, 3, 4, 4), (4, 3, 3, 3)) if op == "ConvInteger" else ((1, 6), (6, 4))
    (x, _, zero), (w, _, w_zero) = m.start(shape), m.weights(weight_shape, 1, 9)
    attributes = {"pads": [1] * 4} if op == "ConvInteger" else {}
    sums = m.node(op, x, w, zero, w_zero, **attributes)
    values = m.node("Mul", m.node("Cast", sums, to=TensorProto.FLOAT), m.constant(0.000407))
    bias = m.node("Add", values, m.constant(np.reshape([0.1, -3, 0.25, 1], (4, 1, 1) if len(shape) == 4 else (4,))))
    if has_quantizer_behind:
        parameters = m.parameters(0.31)
        bias = m.node("DequantizeLinear", m.node("QuantizeLinear", bias, *parameters), *parameters)
    m.output(bias)
    if has_quantizer_behind:
        equal_to_the_definition(m, tmp_path, shape)
        return
    model = m.build()
    data = np.random.default_rng(3).normal(0, 2.5, shape).astype(np.float32)
    (got,) = run(lower(import_bytes(model, tmp_path)), data).values()
    expected = evaluate_integer_model(model, data).astype(float)
    np.testing.assert_allclose(got, expected, rtol=1e-15)  # the output map is applied in float64


def test_integers_added_to_sums_and_a_dequantizer_behind_them(m: IntegerBuilder, tmp_path: Path) -> None:
    (x, _, zero), (w, _, w_zero) = m.start((1, 6)), m.weights((6, 4), 1, 9)
    sums = m.node("Add", m.node("MatMulInteger", x, w, zero, w_zero), m.bias(4))
    values = m.node("Relu", m.node("DequantizeLinear", sums, m.constant(0.000407)))
    parameters = m.parameters(0.31)
    m.end((m.node("QuantizeLinear", values, *parameters), *parameters))
    equal_to_the_definition(m, tmp_path, (1, 6))


def scale_from_the_data(m: IntegerBuilder) -> None:
    x = m.start((1, 6))
    peak = m.node("ReduceMax", m.inputs[0].name)
    m.end((m.node("QLinearMatMul", *x, *m.weights((6, 4), 1), peak, x[2], name="dense"), *x[1:]))


def type_unknown(m: IntegerBuilder) -> None:
    codes = m.node("Mystery", m.input((1, 6)), domain="mine")
    scale = m.constant(1)
    m.output(m.node("QLinearLeakyRelu", codes, scale, "", scale, domain=MICROSOFT, name="leaky"))


def divided_sums(m: IntegerBuilder) -> None:
    (x, _, zero), (w, _, w_zero) = m.start((1, 6)), m.weights((6, 4), 1)
    sums = m.node("MatMulInteger", x, w, zero, w_zero, name="dense")
    m.output(m.node("Cast", m.node("Div", sums, m.constant(4, dtype=np.int32)), to=TensorProto.FLOAT))


def constant_codes(m: IntegerBuilder) -> None:
    w, _, zero = m.weights((6, 6), 1)
    m.output(m.node("MatMulInteger", w, w, zero, zero, name="dense"))


def channels_last(m: IntegerBuilder) -> None:
    m.end(m.apply("QLinearGlobalAveragePool", *m.start((1, 2, 3, 3)), scale=1.0, channels_last=1, name="mean"))


def scales_of_rows(m: IntegerBuilder) -> None:
    (x, _, zero), weight = m.start((4, 6)), m.weights((6, 4), 1)
    rows = m.constant([1, 2, 3, 4])
    m.end(m.apply("QGemm", x, rows, zero, *weight, scale=1.0, bias=m.bias(4), name="dense"))


REFUSED: dict[Callable[[IntegerBuilder], None], tuple[str, ...]] = {
    scale_from_the_data: ("the scale is computed at run time", "dense (QLinearMatMul)"),
    divided_sums: ("Div of the integers that MatMulInteger makes is not supported", "dense (MatMulInteger)"),
    constant_codes: ("come from no QuantizeLinear with one constant scale", "dense (MatMulInteger)"),
    channels_last: ("GlobalAveragePool with channels_last=1 is not supported", "mean (GlobalAveragePool)"),
    scales_of_rows: ("several scales of the input are not supported", "dense (QGemm)"),
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_is_refused_and_where(make: Callable[[IntegerBuilder], None], tmp_path: Path) -> None:
    m = IntegerBuilder(opset=18)
    make(m)
    text = refusal_of(m, tmp_path)
    for part in REFUSED[make]:
        assert part in text


def test_what_follows_from_a_refused_node_is_not_told(tmp_path: Path) -> None:
    m = IntegerBuilder()
    type_unknown(m)
    assert refusal_of(m, tmp_path).count("error[") == 1


@pytest.mark.parametrize("name", ["kws", "mlp"])
def test_files_of_onnxruntimes_quantizer_give_its_integers(name: str) -> None:
    """Made by quantize_static with QuantFormat.QOperator; the outputs are ONNX Runtime's."""
    arrays = np.load(FILES / f"{name}.npz")
    graph = lower(import_model(FILES / f"{name}.onnx"))
    (expected,) = (arrays[key] for key in arrays.files if key != "x")
    for x, y in zip(arrays["x"], expected, strict=True):
        (got,) = run(graph, x.reshape(graph.inputs[0].value.type.shape)).values()
        np.testing.assert_array_equal(got.astype(np.float32).reshape(-1), y.reshape(-1))
