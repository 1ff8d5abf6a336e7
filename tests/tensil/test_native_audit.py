"""The audit of native programs: it holds every layer to what it read, and finds what is wrong in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pefslc
from builders import ModelBuilder
from pefslc.driver.program import Program
from pefslc.geometry.shapes import Window
from pefslc.ir.interpret import quantize_input
from pefslc.targets.protocol import LayerAudit
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import multiply_accumulate
from pefslc.targets.tensil.machine.instructions import MatMul, NoOp
from pefslc.targets.tensil.native_audit import rounded_sums
from pefslc.targets.tensil.program.encoding import encode
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.runner import TensilRunner
from pefslc.targets.tensil.words.word_group import WordTerm

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cnn_float.onnx"


@given(
    st.sampled_from(["FP8BP4", "FP16BP8", "FP32BP16"]).map(DataType.__getitem__),
    st.lists(st.tuples(st.integers(-300, 300), st.integers(-300, 300)), min_size=1, max_size=8),
    st.integers(-50, 50),
    st.randoms(use_true_random=False),
)
def test_sums_lie_between_ties_down_and_ties_up_in_any_order(
    data_type: DataType, products: list[tuple[int, int]], bias: int, random: object
) -> None:
    """Small words are multiplied up to where ties are frequent."""
    up = data_type.one >> 4
    x, w = (np.array(column) for column in zip(*((a * up, b) for a, b in products), strict=True))
    term = WordTerm("x", w[None, :, None, None], Window(kernel=(1, 1)))
    low, high = (int(s[0, 0, 0]) for s in rounded_sums(x[:, None, None], term, Layout(1, 1, 1), data_type))
    ties = sum((int(a) * int(b) * 2) % (2 * data_type.one) == data_type.one for a, b in zip(x, w, strict=True))
    assert high - low == ties
    for _ in range(3):
        total = np.array([bias])
        for k in random.sample(range(len(x)), len(x)):  # type: ignore[attr-defined]
            total = multiply_accumulate(x[k : k + 1], w[k : k + 1], total, data_type)
        assert low <= total[0] - bias <= high


def layers_of(program: Program, runner: TensilRunner, x: np.ndarray) -> tuple[LayerAudit, ...]:
    assert program.emission.audit is not None
    codes = {i.name: quantize_input(i, x) for i in program.graph.inputs}
    outputs, layers = program.emission.audit(runner, codes)
    for name, found in runner.run(codes).items():
        assert np.array_equal(outputs[name], found)
    return layers


@pytest.fixture(scope="module")
def compiled() -> tuple[Program, TensilRunner, np.ndarray]:
    program = pefslc.compile(EXAMPLE, target="tensil", fmt="Q8.8", arch="custom_perf")
    with program._runner() as runner:
        assert isinstance(runner, TensilRunner)
        return program, runner, np.random.default_rng(0).uniform(-1, 1, (2, 1, 16, 16))


def test_every_word_of_a_program_is_what_its_layer_makes_of_what_it_read(
    compiled: tuple[Program, TensilRunner, np.ndarray],
) -> None:
    program, runner, x = compiled
    layers = layers_of(program, runner, x)
    assert sum(layer.words for layer in layers) >= 2 * (8 * 16 * 16 + 8 * 8 * 8 + 16 * 8 * 8 + 16 * 4 * 4 + 10)
    assert not any(layer.outside or layer.saturated for layer in layers)


def damaged(program: TensilProgram, random: np.random.Generator) -> TensilProgram:
    """Without one of its products; or with one bit of a constant changed, where it is no 0.

    Not without one that overwrites: that clears lanes without a channel, too, which are no words of any layer.
    """
    if random.random() < 0.5:
        instructions = program.instructions
        products = [
            i for i, op in enumerate(instructions) if isinstance(op, MatMul) and op.accumulate and not op.zeroes
        ]
        instructions[int(random.choice(products))] = NoOp()
        return replace(program, code=encode(program.architecture, instructions))
    (block,) = program.constants
    vectors = block.vectors.copy()
    row, lane = random.choice(np.argwhere(vectors))
    vectors[row, lane] ^= 1 << int(random.integers(4, 12))
    return replace(program, constants=(replace(block, vectors=vectors),))


def test_what_changes_an_output_is_found_in_its_layer(compiled: tuple[Program, TensilRunner, np.ndarray]) -> None:
    """Not in the layers after it, which still make of their words what they should."""
    program, runner, x = compiled
    random = np.random.default_rng(3)
    codes = {i.name: quantize_input(i, x) for i in program.graph.inputs}
    right = runner.run(codes)
    (name,) = right
    changed = 0
    for _ in range(30):
        other = TensilRunner(damaged(runner.program, random), program.sidecar)
        if np.array_equal(other.run(codes)[name], right[name]):
            continue
        changed += 1
        layers = layers_of(program, other, x)
        wrong = {str(layer.origin) for layer in layers if layer.outside or layer.saturated}
        assert len(wrong) == 1, wrong
    assert changed > 15


def test_a_missing_product_that_overwrites_is_found(compiled: tuple[Program, TensilRunner, np.ndarray]) -> None:
    """In its layer, or also in those after it, which read what is left in lanes without a channel."""
    program, runner, x = compiled
    codes = {i.name: quantize_input(i, x) for i in program.graph.inputs}
    right, whole = runner.run(codes), runner.program
    (name,) = right
    changed = 0
    for i, op in enumerate(whole.instructions):
        if not isinstance(op, MatMul) or op.zeroes or op.accumulate:
            continue
        without = [*whole.instructions[:i], NoOp(), *whole.instructions[i + 1 :]]
        other = TensilRunner(replace(whole, code=encode(whole.architecture, without)), program.sidecar)
        if not np.array_equal(other.run(codes)[name], right[name]):
            changed += 1
            assert any(layer.outside or layer.saturated for layer in layers_of(program, other, x))
    assert changed > 3


def test_verification_refuses_a_program_that_is_not_what_it_says(
    compiled: tuple[Program, TensilRunner, np.ndarray],
) -> None:
    program, _, x = compiled
    verified = program.verify({"x": x})
    assert verified.as_predicted
    words = sum(layer.words for layer in verified.layers)
    assert f"{words:,} of {words:,} words of all layers are the sums" in str(verified)
    layer = replace(verified.layers[0], outside=3, furthest=7)
    wrong = replace(verified, layers=(layer, *verified.layers[1:]))
    assert not wrong.as_predicted
    with pytest.raises(pefslc.CompileError, match=r"3 of 4,096 words are not what their layer makes .* up to 7 units"):
        wrong.require()


def test_sums_that_saturate_are_named_and_not_compared(tmp_path: Path) -> None:
    m = ModelBuilder()
    weight = m.constant(np.full((1, 2, 1, 1), 100.0))
    m.output(m.node("Conv", m.input([1, 2, 4, 4], "x"), weight, name="/loud/Conv"), [1, 1, 4, 4])
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1")
    quiet = np.full((1, 2, 4, 4), 0.5)
    assert "saturated" not in str(program.verify({"x": quiet}))
    verified = program.verify({"x": np.concatenate([quiet, 4 * quiet])})
    assert verified.as_predicted
    assert "2 inputs: warning: sums of loud saturated on 1 of them, where its words are not compared" in str(verified)
    assert [(layer.words, layer.saturated) for layer in verified.layers] == [(16, 1)]


@pytest.mark.parametrize(("pads", "more"), [([0] * 4, [0, 0]), ([1] * 4, [1, 1]), ([2] * 4, [0, 0])])
def test_windows_over_dilated_inputs_are_read_as_they_lie(pads: list[int], more: list[int], tmp_path: Path) -> None:
    m, r = ModelBuilder(), np.random.default_rng(0)
    weights, bias = m.constant(r.normal(0, 0.3, (3, 14, 3, 3))), m.constant(r.normal(0, 0.3, 14))
    up = m.node(
        "ConvTranspose", m.input([1, 3, 6, 6], "x"), weights, bias, strides=[2, 2], pads=pads, output_padding=more
    )
    size = 13 - 2 * pads[0] + more[0]
    made = m.node("Conv", m.node("Relu", up), m.constant(r.normal(0, 0.3, (5, 14, 3, 3))), pads=[1] * 4)
    m.output(made, [1, 5, size, size])
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf")
    layers = program.verify({"x": r.uniform(-1, 1, (2, 3, 6, 6))}).layers
    assert sum(layer.words for layer in layers) >= 2 * 19 * size * size
    assert not any(layer.outside or layer.saturated for layer in layers)
