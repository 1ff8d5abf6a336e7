"""Sum, Mean, Max and Min of any number of tensors, against exact rationals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower, normal
from oracle import evaluate_model
from pefslc.ir.interpret import run
from pefslc.ir.quantized import Clip, Relu

Build = Callable[[ModelBuilder, list[str]], str]
SHAPE = (1, 2, 4, 3)


def of(op: str, count: int) -> Build:
    return lambda m, tensors: m.node(op, *tensors[:count])


def with_constant(op: str, value: object, *, first: bool = False) -> Build:
    def build(m: ModelBuilder, tensors: list[str]) -> str:
        operands = [tensors[1], m.constant(value)]
        return m.node(op, *(operands[::-1] if first else operands))

    return build


PER_CHANNEL = np.reshape([0.5, -1.25], (1, 2, 1, 1))
MODELS: dict[str, Build] = {
    **{f"{op} of {count}": of(op, count) for op in ("Sum", "Mean", "Max", "Min") for count in (1, 2, 3)},
    "Max with 0": with_constant("Max", 0.0),
    "Max with a number in front": with_constant("Max", 0.75, first=True),
    "Min with a number": with_constant("Min", -0.5),
    "Min with 0": with_constant("Min", [0.0]),
    "Max with a number per channel": with_constant("Max", PER_CHANNEL),
    "Min with a number per channel": with_constant("Min", PER_CHANNEL, first=True),
    "Clip in pieces": lambda m, t: m.node("Min", m.constant(1.0), m.node("Max", t[2], m.constant(-1.0))),
    "Max of two and a number": lambda m, t: m.node("Max", t[0], m.constant(0.25), t[1]),
}


@pytest.mark.parametrize("opset", [10, 13])
@pytest.mark.parametrize("name", MODELS)
def test_operators_of_many_tensors(name: str, opset: int, tmp_path: Path) -> None:
    """Two branches of a convolution each: their scales differ from that of the input."""
    m = ModelBuilder(opset=opset)
    x = m.quant(m.input(SHAPE), 2**-3, 6)
    branches = [m.node("Conv", x, m.weight(normal((2, 2, 1, 1), seed=seed), 2**-seed)) for seed in (2, 3)]
    m.output(m.quant(MODELS[name](m, [x, *branches]), 0.25, 7))
    quantized = import_bytes(m, tmp_path)
    data = np.round(normal(SHAPE, 2) * 8) / 8
    want = evaluate_model(m.build(), data)
    for graph in (quantized, lower(quantized)):
        np.testing.assert_array_equal(next(iter(run(graph, data).values())), want)


def test_a_limit_is_a_relu_or_a_clip(tmp_path: Path) -> None:
    for op, value, want in (("Max", 0.0, Relu), ("Max", 1.0, Clip), ("Min", 0.0, Clip)):
        m = ModelBuilder()
        m.output(m.quant(m.node(op, m.quant(m.input(SHAPE)), m.constant(value))))
        assert [type(o) for o in import_bytes(m, tmp_path).ops][1] is want


def test_a_maximum_of_shapes_is_still_folded(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE))
    batch = m.node("Slice", m.node("Shape", x), *(m.constant([i], dtype=np.int64) for i in (0, 1)))
    batch = m.node("Max", batch, m.constant([1], dtype=np.int64))
    m.output(m.node("Reshape", x, m.node("Concat", batch, m.constant([-1], dtype=np.int64), axis=0)))
    assert import_bytes(m, tmp_path).outputs[0].shape == (1, 24)
