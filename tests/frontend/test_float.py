"""Float models: what the importer understands is what onnx's own reference evaluator computes, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from builders import ModelBuilder, import_bytes, normal, random_network, without_quantizers
from pefslc.frontend import import_model
from pefslc.passes.check_format import is_float
from pefslc.passes.fold_batch_norm import FoldBatchNorm

SHARED = Path(__file__).parents[3] / "shared"
OPSETS = (9, 10, 11, 12, 13, 15, 17, 18, 20, 22)


def in_inference_mode(model: onnx.ModelProto) -> onnx.ModelProto:
    """For BatchNormalization before opset 14 the evaluator takes the batch's statistics; from 15 on the same node's
    inputs count, as both versions of the operator say for inference."""
    (opset,) = (o for o in model.opset_import if o.domain == "")
    if opset.version < 15 and any(n.op_type == "BatchNormalization" for n in model.graph.node):
        opset.version = 15
    return model


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its float32 tensors widened, so that the evaluator rounds as we do."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in [*wide.graph.initializer, *(a.t for n in wide.graph.node for a in n.attribute if a.HasField("t"))]:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in [*wide.graph.input, *wide.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return wide


def reference(model: onnx.ModelProto, x: NDArray[np.float64]) -> NDArray[np.float64]:
    name = next(i.name for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer})
    (y,) = ReferenceEvaluator(in_inference_mode(in_float64(model))).run(None, {name: x})
    return np.asarray(y)


def assert_same(got: NDArray[np.float64], want: NDArray[np.float64]) -> None:
    """Up to the rounding of sums of a few thousand float64 terms."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.abs(want).max())


def conv(b: ModelBuilder, x: str) -> str:
    weight, bias = b.constant(normal((4, 3, 3, 3))), b.constant(normal((4,)))
    return b.node("Conv", x, weight, bias, pads=[1, 1, 1, 1], strides=[2, 1])


def depthwise(b: ModelBuilder, x: str) -> str:
    return b.node("Conv", x, b.constant(normal((6, 1, 3, 2))), group=3, dilations=[2, 1])


def gemm(b: ModelBuilder, x: str) -> str:
    flat = b.node("Flatten", x)
    return b.node("Gemm", flat, b.constant(normal((5, 192))), b.constant(normal((5,))), transB=1)


def matmul(b: ModelBuilder, x: str) -> str:
    flat = b.node("Reshape", x, b.constant([0, -1], dtype=np.int64))
    product = b.node("MatMul", flat, b.constant(normal((192, 5))))
    return b.node("Add", product, b.constant(normal((5,))))


def batch_norm(b: ModelBuilder, x: str) -> str:
    parameters = [b.constant(normal((3,), seed=i)) for i in range(3)] + [b.constant([0.3, 1.9, 0.7])]
    return b.node("BatchNormalization", x, *parameters, epsilon=1e-3)


def clip(b: ModelBuilder, x: str) -> str:
    if b.opset < 11:
        return b.node("Clip", x, min=-0.5, max=1.25)
    return b.node("Clip", x, b.constant(-0.5), b.constant(1.25))


def reduce_mean(b: ModelBuilder, x: str) -> str:
    if b.opset < 18:
        return b.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    return b.node("ReduceMean", x, b.constant([-1, -2], dtype=np.int64), keepdims=0)


def dropout(b: ModelBuilder, x: str) -> str:
    if b.opset < 12:
        return b.node("Relu", b.node("Dropout", x, ratio=0.5))
    return b.node("Relu", b.node("Dropout", x, b.constant(0.5)))


def residual(b: ModelBuilder, x: str) -> str:
    return b.node("Relu", b.node("Add", b.node("Relu", x), b.node("Identity", x)))


OPERATORS: dict[str, Callable[[ModelBuilder, str], str]] = {
    "Conv": conv,
    "depthwise": depthwise,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "LeakyRelu": lambda b, x: b.node("LeakyRelu", x, alpha=0.125),
    "Clip": clip,
    "Add": residual,
    "MaxPool": lambda b, x: b.node("MaxPool", x, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    "AveragePool": lambda b, x: b.node("AveragePool", x, kernel_shape=[2, 3], strides=[1, 2]),
    "GlobalAveragePool": lambda b, x: b.node("GlobalAveragePool", x),
    "ReduceMean": reduce_mean,
    "Concat": lambda b, x: b.node("Concat", x, b.node("Relu", x), axis=1),
    "Dropout": dropout,
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_float_operator_means_what_onnx_says(operator: str, opset: int, tmp_path: Path) -> None:
    b = ModelBuilder(opset=opset)
    b.output(OPERATORS[operator](b, b.input([1, 3, 8, 8])))
    graph = import_bytes(b, tmp_path)
    x = normal((1, 3, 8, 8))
    (got,) = graph.run(x).values()
    assert_same(got, reference(b.build(), x))


def models() -> list[Path]:
    return [*sorted(SHARED.glob("zoo/*_float.onnx")), *sorted(SHARED.glob("tcu/models/*.onnx"))]


@pytest.mark.skipif(not models(), reason="needs the zoo and the TCU's models beside the checkout")
@pytest.mark.parametrize("path", models(), ids=lambda p: p.stem)
def test_a_float_network_means_what_onnx_says_and_folding_batch_norm_keeps_it(path: Path) -> None:
    graph = import_model(path)
    if not is_float(graph):
        assert "w" in path.stem  # float scales, not float weights
        return
    x = normal(graph.inputs[0].value.type.shape, 0.5)
    want = reference(onnx.load(str(path)), x)
    for g in (graph, FoldBatchNorm().run(graph)):
        (got,) = g.run(x).values()
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-8 * np.abs(want).max())  # LeakyRelu's 0.1 is decimal


@pytest.mark.parametrize("seed", range(12))
def test_random_float_networks_mean_what_onnx_says(seed: int, tmp_path: Path) -> None:
    model = without_quantizers(random_network(seed))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = import_model(tmp_path / "m.onnx")
    x = normal(graph.inputs[0].value.type.shape)
    want = reference(model, x)
    for g in (graph, FoldBatchNorm().run(graph)):
        (got,) = g.run(x).values()
        assert_same(got, want)
