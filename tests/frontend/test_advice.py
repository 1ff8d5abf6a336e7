"""Refusals that name the cause, once: dynamic quantization, a missing domain, and nothing that only follows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import pefslc
from builders import QONNX, ModelBuilder, import_bytes, normal, refusal_of


def dynamic_layer(m: ModelBuilder, x: str, n: int) -> str:
    """A dense layer as onnxruntime's quantize_dynamic writes it."""
    codes, scale, zero = f"codes{n}", f"scale{n}", f"zero{n}"
    m.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", [x], [codes, scale, zero], name=f"quantize{n}"))
    weight = m.constant(np.ones((4, 4)), dtype=np.int8)
    sums = m.node("MatMulInteger", codes, weight, zero, m.constant(0, dtype=np.int8))
    product = m.node("Mul", m.node("Cast", sums, to=1), m.node("Mul", scale, m.constant(0.5)))
    return m.node("Relu", m.node("Add", product, m.constant(np.ones(4))))


def test_dynamic_quantization_is_told_once(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(dynamic_layer(m, dynamic_layer(m, m.input((1, 4)), 0), 1))
    path = m.save(tmp_path)
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(path, target="c")
    assert str(caught.value).split("\n") == [
        "error[PEF0401]: dynamic quantization (DynamicQuantizeLinear) has no fixed formats: "
        "its scales depend on the data",
        "  at:   quantize0 (DynamicQuantizeLinear)",
        "        quantize1 (DynamicQuantizeLinear)",
        "  help: use quantize_static with QuantFormat.QDQ; or give the float model, and let pefslc choose formats: "
        "--fmt auto:8 --calibrate data.npz",
    ]


def test_an_operator_of_integers_that_nothing_dynamic_made_is_told(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("MatMulIntegerToFloat", m.input((1, 4)), m.constant(np.ones((4, 4)), dtype=np.int8)))
    assert "operator MatMulIntegerToFloat is not supported" in refusal_of(m, tmp_path)


@pytest.mark.parametrize("op", ["Quant", "BipolarQuant", "Trunc"])
def test_an_operator_of_qonnx_without_its_domain_is_named_and_the_advice_works(op: str, tmp_path: Path) -> None:
    constants = {"Quant": (0.5, 0, 4), "BipolarQuant": (0.5,), "Trunc": (0.5, 0, 8, 4)}[op]
    m = ModelBuilder(opset=13)
    x = m.quant(m.input((1, 4)))
    m.output(m.node(op, x, *(m.constant(c) for c in constants), name="n"))
    model = m.build()
    text = refusal_of(model, tmp_path)
    assert f"operator {op} of ONNX's own domain is not supported" in text
    assert "give these nodes domain='qonnx.custom_op.general' with the onnx package" in text
    for node in model.graph.node:
        if node.op_type == op:
            node.domain = QONNX
    assert import_bytes(model, tmp_path).ops


def test_nothing_is_told_of_what_follows_from_an_operator_of_unknown_shape(tmp_path: Path) -> None:
    """QuantLSTMCell has Quant in its name, but no quantizer's shape."""
    m = ModelBuilder()
    x = m.quant(m.input((1, 5, 4)))
    cell = m.node("QuantLSTMCell", x, domain=QONNX, name="cell", output="h")
    m.output(m.node("Gemm", m.node("Flatten", cell), m.weight(np.ones((6, 3)))))
    assert refusal_of(m, tmp_path).startswith("error[PEF0401]: operator QuantLSTMCell of domain")
    assert refusal_of(m, tmp_path).count("error[") == 1


@pytest.mark.parametrize("features", [16, 100])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", [14, 16])
def test_the_widths_that_a_refused_sum_is_told_fit(features: int, signed: int, bits: int, tmp_path: Path) -> None:
    """On 16-bit words; the weights on finer grids of the same range."""

    def network(weight_bits: int, input_bits: int) -> Path:
        m = ModelBuilder()
        x = m.quant(m.input([1, features]), 2.0 ** (8 - input_bits - 5), input_bits, signed=signed)
        weight = m.weight(normal((features, 4), 0.25), 2.0 ** (1 - weight_bits), weight_bits)
        m.output(m.quant(m.node("MatMul", x, weight), 0.25, 4))
        return m.save(tmp_path)

    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(network(bits, bits), target="tensil")
    (problem,) = caught.value.problems
    assert problem.code is pefslc.Code.ACCUMULATOR_OVERFLOW
    found = re.search(rf"use (\d+)-bit weights and (\d+)-bit inputs instead of {bits} and {bits}", problem.hint or "")
    assert found, problem.hint
    assert pefslc.compile(network(*map(int, found.groups())), target="tensil").layers
    assert "or --target c, whose sums have 64 bits" in (problem.hint or "")
    assert pefslc.compile(network(bits, bits), target="c").exact
    assert ("--allow-overflow" in (problem.hint or "")) == (bits < 16)
