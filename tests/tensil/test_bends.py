"""LeakyRelu on the TCU: two straight requantizations, added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensil_support import emit, random_codes, simulate

import pefslc
from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import run_codes
from pefslc.numeric.requantize import bent_parts, fit_affine_shift
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.words.bent_requantize import merged, split_bends

BOARD = load_architecture("pynqz1")


def leaky(alpha: float | list[float], bits: int, *, normalized: bool, seed: int = 0) -> ModelBuilder:
    """A convolution, BatchNorm perhaps, LeakyRelu or PRelu, Quant; and a second one that reads it."""
    m = ModelBuilder()
    r = np.random.default_rng(seed)
    y = m.quant(m.input([1, 3, 6, 6], "input"), 0.125, 4)
    for channels, inputs in ((6, 3), (4, 6)):
        y = m.node("Conv", y, m.weight(r.normal(0, 0.4, (channels, inputs, 3, 3)), 0.125, 4))
        if normalized:
            normal = (r.uniform(-2, 2, channels), *r.normal(0, 0.5, (2, channels)), r.uniform(0.5, 2, channels))
            y = m.node("BatchNormalization", y, *(m.constant(p) for p in normal))
        if isinstance(alpha, list):
            y = m.node("PRelu", y, m.constant(np.resize(alpha, (channels, 1, 1))))
        else:
            y = m.node("LeakyRelu", y, alpha=alpha)
        y = m.quant(y, 0.125, bits)
    m.output(y, [1, 4, 2, 2])
    return m


SLOPES = [0.25, 0.0, 1.0, 0.1, 0.5]


@pytest.mark.parametrize(
    ("alpha", "bits", "normalized"),
    [(0.25, 5, False), (0.1, 5, False), (0.3, 3, True), (SLOPES, 5, False), (SLOPES, 3, True)],
)
@pytest.mark.parametrize("arch", ["pynqz1", "zcu104"])
def test_leaky_relu_is_exact(
    alpha: float | list[float], bits: int, normalized: bool, arch: str, tmp_path: Path
) -> None:
    graph = lower(import_bytes(leaky(alpha, bits, normalized=normalized), tmp_path))
    assert len(split_bends(graph, BOARD.data_type).parts) == 2
    emission = emit(graph, load_architecture(arch), tmp_path)
    assert emission.computed is None
    assert set(emission.ops) == {op.result.name for op in graph.ops}
    inputs = random_codes(graph, 1, batch=4)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


def test_where_both_parts_are_bounded_the_whole_is_reported(tmp_path: Path) -> None:
    """What the files compute is one staircase, and it is the model's own operation that is reported."""
    program = pefslc.compile(leaky(0.1, 6, normalized=True).save(tmp_path), target="tensil")
    assert not program.exact
    x = np.random.default_rng(0).normal(0, 1, (8, 3, 6, 6))
    verification = program.verify({"x": x})
    assert verification.as_predicted
    assert {m.layer for m in verification.measured} <= {row.layer for row in program.layers}
    assert program.costs is not None
    bounded = [op for op in program.graph.of_type(Requantize) if program.emission.ops[op.result.name].deviations]
    assert bounded


def test_where_one_part_is_bounded_the_whole_is_not_exact(tmp_path: Path) -> None:
    ops = pefslc.compile(leaky(0.1, 4, normalized=True).save(tmp_path), target="tensil").emission.ops.values()
    assert any(report.deviations for report in ops)
    assert all(report.exact == (report.deviations is None) for report in ops)


def test_a_straight_quantizer_is_not_split(tmp_path: Path) -> None:
    m = ModelBuilder()
    y = m.node("Conv", m.quant(m.input([1, 3, 6, 6], "input"), 0.125, 4), m.weight(np.ones((2, 3, 1, 1)), 0.125, 4))
    m.output(m.quant(y, 0.25, 5), [1, 2, 6, 6])
    graph = lower(import_bytes(m, tmp_path))
    assert split_bends(graph, BOARD.data_type).graph is graph


def test_a_line_that_no_shift_takes_is_not_split_where_two_are_no_better(tmp_path: Path) -> None:
    """A sixth, half to even: ties go up and down in turn, on both sides of 0."""
    m = ModelBuilder()
    y = m.node("Conv", m.quant(m.input([1, 2, 3, 3], "input"), 0.125, 6), m.weight(np.full((1, 2, 1, 1), 0.5), 0.5, 4))
    m.output(m.quant(y, 0.375, 5), [1, 1, 3, 3])
    graph = lower(import_bytes(m, tmp_path))
    (requantize,) = graph.of_type(Requantize)
    assert fit_affine_shift(requantize.staircase) is None
    assert split_bends(graph, BOARD.data_type).graph is graph


@given(st.data())
def test_the_parts_of_a_staircase_add_up_to_it(data: st.DataObject) -> None:
    channels, below, above = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    direction = np.array([data.draw(st.sampled_from([1, -1])) for _ in range(channels)])
    row = st.lists(st.integers(-21, 21), min_size=below + above, max_size=below + above).map(sorted)
    rows = np.array([data.draw(row) for _ in range(channels)], dtype=np.int64)
    whole = Staircase(-20, 20, -below, np.where(direction[:, None] > 0, rows, rows[:, ::-1]), direction)
    lower_part, upper_part = bent_parts(whole)
    assert merged(whole, lower_part, upper_part) == whole
    codes = np.tile(np.arange(-20, 21), (channels, 1))
    assert np.array_equal(lower_part(codes) + upper_part(codes), whole(codes))
    restricted = lower_part.restricted(-20, 20), upper_part.restricted(-20, 20)
    again = merged(whole, *restricted)
    assert np.array_equal(again(codes), whole(codes))
