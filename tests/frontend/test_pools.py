"""Pools whose windows hang over the edge: ceil_mode, and padding that does not count, against the definition."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import pefslc
from builders import ModelBuilder, import_bytes, lower
from oracle import evaluate_model
from pefslc.diagnostics.errors import CompileError
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import SumPool
from pefslc.ir.interpret import run


def pooled(op: str, size: tuple[int, int], **attributes: object) -> ModelBuilder:
    m = ModelBuilder(opset=19)
    y = m.node(op, m.quant(m.input((1, 2, *size)), 0.25, 5), **attributes)
    m.output(y if op == "MaxPool" else m.quant(y, 2.0**-5, 9))
    return m


@st.composite
def pools(draw: st.DrawFn) -> tuple[str, tuple[int, int], dict[str, object]]:
    op = draw(st.sampled_from(("MaxPool", "AveragePool")))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    size, kernel, strides = draw(st.tuples(st.integers(2, 7), st.integers(2, 7))), draw(pair), draw(pair)
    dilations = draw(st.sampled_from(((1, 1), (2, 1))))
    pads = [0] * 4 if dilations[0] > 1 else [draw(st.integers(0, k - 1)) for k in kernel * 2]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "ceil_mode": draw(st.integers(0, 1)),
    }
    assume(all(s + sum(pads[i::2]) >= (kernel[i] - 1) * dilations[i] + 1 for i, s in enumerate(size)))
    return op, size, attributes | ({"count_include_pad": draw(st.integers(0, 1))} if op == "AveragePool" else {})


@given(pools())
def test_pools_are_what_their_definition_says(case: tuple[str, tuple[int, int], dict[str, object]]) -> None:
    op, size, attributes = case
    m = pooled(op, size, **attributes)
    x = np.random.default_rng(sum(size)).normal(0, 1.5, (1, 2, *size)).astype(np.float32)
    with TemporaryDirectory() as folder:
        quantized = import_bytes(m, Path(folder))
        expected = evaluate_model(m.build(), x).astype(float)
        for level in (quantized, lower(quantized)):
            (found,) = run(level, x).values()
            np.testing.assert_array_equal(found, expected)


def test_means_over_fewer_taps_have_one_scale(tmp_path: Path) -> None:
    """9, 6 and 4 taps: sums times 4, 6 and 9, of steps 1/36."""
    (pool,) = lower(import_bytes(pooled("AveragePool", (3, 4), kernel_shape=[3, 3], pads=[1] * 4), tmp_path)).of_type(
        SumPool
    )
    assert pool.factors is not None
    assert pool.factors.data.tolist() == [[9, 6, 6, 9], [6, 4, 4, 6], [9, 6, 6, 9]]
    assert pool.result.type.codes.scale.step * 36 * 4 == 1
    assert (pool.result.type.codes.low, pool.result.type.codes.high) == (-16 * 36, 15 * 36)


def test_an_average_as_the_output_is_the_hosts_to_divide(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("AveragePool", m.quant(m.input((1, 2, 5, 5))), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1))
    x = np.random.default_rng(0).normal(0, 1, (1, 2, 5, 5)).astype(np.float32)
    (found,) = run(lower(import_bytes(m, tmp_path)), x).values()
    np.testing.assert_array_equal(found, evaluate_model(m.build(), x).astype(float))


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_the_targets(target: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(0, 1.5, (3, 2, 6, 7))
    model = pooled("MaxPool", (6, 7), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1).save(tmp_path)
    assert pefslc.compile(model, target=target).verify({"x": x}).equal
    model = pooled("AveragePool", (6, 7), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4).save(tmp_path)
    if target == "c":
        assert pefslc.compile(model, target=target).verify({"x": x}).equal
    else:
        with pytest.raises(CompileError, match="a mean over windows of different sizes"):
            pefslc.compile(model, target=target)


def test_so_many_sizes_that_64_bits_do_not_hold_their_means(tmp_path: Path) -> None:
    size = (60, 60)
    m = pooled("AveragePool", size, kernel_shape=list(size), pads=[30, 30, 29, 29])
    with pytest.raises(CompileError, match="more than 64 bits"):
        lower(import_bytes(m, tmp_path))


@given(st.data())
def test_the_taps_inside_are_counted(data: st.DataObject) -> None:
    draw = data.draw
    pair = st.tuples(st.integers(1, 4), st.integers(1, 4))
    window = Window(
        kernel=draw(pair), strides=draw(pair), dilations=draw(pair), pads=draw(st.tuples(*[st.integers(0, 5)] * 4))
    )
    size, margins = draw(pair), draw(st.tuples(*[st.integers(0, 5)] * 4))
    rows, columns = window.taps_inside(size, margins)
    for axis, found in enumerate((rows, columns)):
        assert len(found) == max(window.output_size(*size)[axis], 0)
        for position, count in enumerate(found):
            start = position * window.strides[axis] - window.pads[axis]
            taps = [start + i * window.dilations[axis] for i in range(window.kernel[axis])]
            assert count == sum(-margins[axis] <= t < size[axis] + margins[axis + 2] for t in taps)
