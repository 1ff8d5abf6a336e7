"""Quant of a weight with a zero point or a bit width for each output channel, number by number."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from builders import QONNX, ModelBuilder, import_bytes, lower, normal, refusal_of
from oracle import quantize_value
from pefslc.ir.interpret import run

SHAPES = {"Conv": (3, 2, 1, 1), "Gemm": (3, 2), "MatMul": (2, 3), "ConvTranspose": (2, 3, 1, 1)}
SCALES, ZERO_POINTS, WIDTHS = [0.125, 0.5, 0.3], [3.0, -2, 0], [3.0, 5, 8]


def along(values: list[float], op: str) -> np.ndarray:
    """One for each output channel, which a MatMul and a ConvTranspose have along axis 1."""
    axis = 1 if op in ("MatMul", "ConvTranspose") else 0
    return np.reshape(values, [3 if a == axis else 1 for a in range(len(SHAPES[op]))])


@pytest.mark.parametrize("op", SHAPES)
@pytest.mark.parametrize(
    ("scales", "zeros", "widths"), [(1, 1, 0), (0, 1, 0), (1, 0, 1), (0, 0, 1), (1, 1, 1), (0, 1, 1)]
)
@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0)])
def test_each_channel_has_its_own(
    op: str, scales: int, zeros: int, widths: int, signed: int, narrow: int, tmp_path: Path
) -> None:
    parameters = [
        along(values, op).astype(np.float32) if several else np.float32(values[0])
        for values, several in ((SCALES, scales), (ZERO_POINTS, zeros), (WIDTHS, widths))
    ]
    raw = normal(SHAPES[op], 1.5).astype(np.float32)
    weight = np.empty(raw.shape, dtype=object)
    for index in np.ndindex(raw.shape):
        scale, zero, bits = (Fraction(float(np.broadcast_to(p, raw.shape)[index])) for p in parameters)
        shifted = Fraction(float(raw[index])) + zero * scale
        code = quantize_value(shifted, scale, int(bits), bool(signed), bool(narrow), "ROUND")
        weight[index] = (code - zero) * scale
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 3, 2) if "Conv" in op else (1, 2)), 0.25, 6)
    attributes = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
    w = m.node("Quant", m.constant(raw), *map(m.constant, parameters), domain=QONNX, **attributes)
    m.output(m.node(op, x, w, **({"transB": 1} if op == "Gemm" else {})))
    data = np.round(normal((1, 2, 3, 2) if "Conv" in op else (1, 2), 3) * 4) / 4
    by_output = weight.reshape(raw.shape[:2]) if op in ("Conv", "Gemm") else weight.reshape(raw.shape[:2]).T
    want = np.einsum("oc,nc...->no...", by_output, np.vectorize(Fraction, "O")(np.clip(data, -8, 7.75)), optimize=False)
    quantized = import_bytes(m, tmp_path)
    for graph in (quantized, lower(quantized)):
        got = next(iter(run(graph, data).values()))
        np.testing.assert_array_equal(got, want.astype(np.float64))


@pytest.mark.parametrize(
    ("scale", "zero", "bits", "message"),
    [
        ([0.5], np.ones((1, 2, 1, 1)) * [[[[1]], [[2]]]], [4], "error[PEF0303]: a zero point of shape [1, 2, 1, 1]"),
        ([0.5], np.ones((3, 2, 1, 1)), [4], "error[PEF0303]: a zero point of shape [3, 2, 1, 1] on a tensor"),
        ([0.5], [[[[0.5]]], [[[0]]], [[[1]]]], [4], "error[PEF0303]: the zero point holds other than integers"),
        ([0.5], [0], [[[[40]]], [[[4]]], [[[4]]]], "error[PEF0302]: a bit width of 40 is not supported"),
    ],
)
def test_what_is_refused(scale: object, zero: object, bits: object, message: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    parameters = [m.constant(v) for v in (normal((3, 2, 1, 1)), scale, zero, bits)]
    w = m.node("Quant", *parameters, domain=QONNX, **attributes)
    m.output(m.node("Conv", m.quant(m.input((1, 2, 3, 2))), w))
    assert message in refusal_of(m, tmp_path)
