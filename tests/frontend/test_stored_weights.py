"""Weights whose zero point or type is not the usual one: of each channel, of 64 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from builders import ModelBuilder, import_bytes, lower, refusal_of
from pefslc.ir.interpret import run
from pefslc.ir.quantized import QuantizedConstant

SHAPE = (1, 3, 4, 5)
SCALES = np.float32([0.1, 0.25])
ZERO_POINTS = np.array([3, 200])


def values_of(m: ModelBuilder, folder: Path) -> np.ndarray:
    """What the integers of the model compute for random inputs on its grid of eighths; the weights are 1 x 1."""
    x = np.random.default_rng(3).integers(-8, 8, SHAPE) / 8
    quantized = import_bytes(m, folder)
    found = [next(iter(run(graph, x).values())) for graph in (quantized, lower(quantized))]
    np.testing.assert_array_equal(*found)
    return found[0]


def expected_of(weights: np.ndarray) -> np.ndarray:
    x = np.random.default_rng(3).integers(-8, 8, SHAPE) / 8
    return np.einsum("oi,nihw->nohw", weights.astype(np.float64), x)


def weights() -> np.ndarray:
    """Ties among them: halves of the scales."""
    return np.concatenate([np.random.default_rng(4).normal(0, 3, (2, 2)), [[0.05], [0.125]]], axis=1).astype(np.float32)


def test_a_quant_of_weights_may_have_a_zero_point_for_each_channel(tmp_path: Path) -> None:
    """Brevitas' ShiftedUint8WeightPerChannelFloat."""
    m = ModelBuilder()
    parameters = [m.constant(a.reshape(2, 1, 1, 1)) for a in (SCALES, ZERO_POINTS)]
    raw = m.constant(weights().reshape(2, 3, 1, 1))
    weight = m.node("Quant", raw, *parameters, m.constant(8), domain=m.quant_domain, signed=0, narrow=0)
    x = m.quant(m.input(SHAPE), 0.125, 8)
    m.output(m.node("Conv", x, weight))
    ratio = weights().astype(np.float64) / SCALES.astype(np.float64)[:, None]
    codes = np.clip(np.rint(ratio + ZERO_POINTS[:, None]), 0, 255) - ZERO_POINTS[:, None]
    np.testing.assert_array_equal(values_of(m, tmp_path), expected_of(codes * SCALES.astype(np.float64)[:, None]))


def test_a_quantize_linear_of_weights_may_have_a_zero_point_for_each_channel(tmp_path: Path) -> None:
    """The same in QCDQ: the zero point is added after rounding, and a Clip may stand between."""
    m = ModelBuilder(opset=13)
    parameters = [m.constant(SCALES), m.constant(ZERO_POINTS, dtype=np.uint8)]
    codes = m.node("QuantizeLinear", m.constant(weights().reshape(2, 3, 1, 1)), *parameters, axis=0)
    clipped = m.node("Clip", codes, m.constant(0, dtype=np.uint8), m.constant(210, dtype=np.uint8))
    x = m.quant(m.input(SHAPE), 0.125, 8)
    m.output(m.node("Conv", x, m.node("DequantizeLinear", clipped, *parameters, axis=0)))
    ratio = np.rint(weights().astype(np.float64) / SCALES.astype(np.float64)[:, None])
    wanted = np.clip(ratio + ZERO_POINTS[:, None], 0, 210) - ZERO_POINTS[:, None]
    np.testing.assert_array_equal(values_of(m, tmp_path), expected_of(wanted * SCALES.astype(np.float64)[:, None]))


def test_a_zero_point_for_each_channel_of_activations_is_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    parameters = [m.constant(np.reshape(a, (1, 3, 1, 1))) for a in ([0.5, 1, 2], [0, 1, 2])]
    m.output(m.node("Quant", m.input(SHAPE), *parameters, m.constant(8), domain=m.quant_domain))
    assert "the zero point has shape [1, 3, 1, 1], not one number" in refusal_of(m, tmp_path)


def test_scales_and_zero_points_along_different_axes_are_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    scale, zero_point = m.constant([[0.5], [1]]), m.constant([[1, 2, 3]])
    weight = m.node("Quant", m.constant(np.ones((2, 3))), scale, zero_point, m.constant(8), domain=m.quant_domain)
    m.output(m.node("MatMul", m.quant(m.input((1, 2)), 0.125, 8), weight))
    assert "scales, zero points and bit widths along several axes" in refusal_of(m, tmp_path)


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_stored_integers_may_have_64_bits(kind: str, tmp_path: Path) -> None:
    """tf2onnx writes the biases of TFLite's 16x8 quantization so."""
    types = {"weight": TensorProto.INT8, "bias": TensorProto.INT32} | {kind: TensorProto.INT64}
    m = ModelBuilder(opset=13)
    codes = {"weight": [[5, -3, 100], [1, 2, -128]], "bias": [70000, -2]}
    tensors = {}
    for name, values in codes.items():
        array = np.reshape(values, (2, 3, 1, 1) if name == "weight" else (2,))
        m.initializers.append(helper.make_tensor(name, types[name], array.shape, array.reshape(-1).tolist()))
        tensors[name] = m.node("DequantizeLinear", name, m.constant(2.0**-6))
    m.output(m.node("Conv", m.quant(m.input(SHAPE), 0.125, 8), *tensors.values()))
    wanted = expected_of(np.array(codes["weight"]) / 64) + np.reshape(codes["bias"], (1, 2, 1, 1)) / 64
    np.testing.assert_array_equal(values_of(m, tmp_path), wanted)
    (stored,) = (op for op in import_bytes(m, tmp_path).of_type(QuantizedConstant) if op.codes.data.ndim == 4)
    assert stored.quantization.bits <= 32


def test_stored_integers_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    m = ModelBuilder(opset=13)
    m.initializers.append(helper.make_tensor("w", TensorProto.INT64, [2, 3, 1, 1], [2**31, 0, 0, 0, 0, 0]))
    weight = m.node("DequantizeLinear", "w", m.constant(2.0**-6))
    m.output(m.node("Conv", m.quant(m.input(SHAPE), 0.125, 8), weight))
    assert "integers of at most 32 bits" in refusal_of(m, tmp_path)


def test_a_signed_bit_is_refused_with_the_quantizer_that_means_it(tmp_path: Path) -> None:
    """qonnx' converter writes QKeras' binary so: -1 and 1 are meant, and the node says 0."""
    m = ModelBuilder()
    parameters = [m.constant(v) for v in (1, 0, 1)]
    weight = m.node("Quant", m.constant(np.ones((2, 3, 1, 1))), *parameters, domain=m.quant_domain, narrow=1)
    m.output(m.node("Conv", m.quant(m.input(SHAPE), 0.125, 8), weight))
    assert "BipolarQuant" in refusal_of(m, tmp_path)
