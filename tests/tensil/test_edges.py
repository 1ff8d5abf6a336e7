"""Models at the edge of what the TCU can do: each is exact, or refused by name. Most were once wrong."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from integer_graphs import GraphBuilder
from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.numeric.rounding import round_fraction
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline
from pefslc.targets.protocol import TargetOptions
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, load_architecture
from pefslc.targets.tensil.target import TensilTarget
from pefslc.targets.tensil.words import group_requantize
from pefslc.targets.tensil.words.group_requantize import GroupRequantizer

BOARD = load_architecture("pynqz1")


def check(graph: Graph, folder: Path, architecture: Architecture = BOARD) -> None:
    """Every code of the simulated program is the interpreter's."""
    emission = emit(graph, architecture, folder)
    inputs = random_codes(graph, 0, batch=4)
    expected, found = run_codes(graph, inputs), simulate(graph, emission, folder, inputs)
    for output in graph.outputs:
        assert np.array_equal(found[output.name], expected[output.value.name])


def flat(m: ModelBuilder, shape: list[int]) -> tuple[str, str]:
    x = m.quant(m.input(shape, "input"), 0.125, 4)
    return x, m.node("Flatten", x)


@pytest.mark.parametrize("scale", [0.125, 0.25])
def test_a_flattened_image_and_a_dense_result_are_not_added(scale: float, tmp_path: Path) -> None:
    m = ModelBuilder()
    _, f = flat(m, [1, 3, 2, 2])
    y = m.quant(m.node("Gemm", f, m.weight(np.eye(12), 0.25, 4), transB=1), scale, 4)
    m.output(m.node("Add", f, y), [1, 12])
    with pytest.raises(CompileError, match="Add of a flattened tensor") as e:
        check(lower(import_bytes(m, tmp_path)), tmp_path)
    assert "add before Flatten" in str(e.value)


def test_flattened_images_are_added_as_they_lie(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, 2, 2], "input"), 0.125, 4)
    image = m.quant(m.node("Conv", x, m.weight(np.ones((5, 3, 1, 1)), 0.25, 3)), 0.125, 4)
    f = m.node("Flatten", image)
    m.output(m.node("Add", m.node("Add", f, f), m.quant(f, 0.25, 4)), [1, 20])
    check(lower(import_bytes(m, tmp_path)), tmp_path)


def test_codes_wider_than_a_word_are_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 9], "input"), 1.0, 12)
    m.output(m.quant(x, 1 / 64, 18), [1, 9])
    with pytest.raises(CompileError, match="its codes need 18 bits"):
        check(lower(import_bytes(m, tmp_path)), tmp_path)
    wide = ModelBuilder()
    wide.output(wide.quant(wide.input([1, 9], "input"), 1.0, 18), [1, 9])
    with pytest.raises(CompileError, match="the input needs 18 bits, FP16BP8 has 16"):
        check(lower(import_bytes(wide, tmp_path)), tmp_path)


def overflowing(m: ModelBuilder) -> ModelBuilder:
    x = m.quant(m.input([1, 9], "input"), 1.0, 16)
    m.output(m.node("Add", x, m.quant(x, 1.0, 15)), [1, 9])
    return m


def test_accepted_overflow_is_never_called_exact(tmp_path: Path) -> None:
    graph = import_bytes(overflowing(ModelBuilder()), tmp_path)
    integer, _ = run_passes(graph, pipeline(TargetLimits(16, "the TCU"), allow_overflow=True))
    emission = TensilTarget().lower(integer, TargetOptions(allow_overflow=True))
    assert not all(report.exact for report in emission.ops.values())


def test_a_bias_that_is_no_word_is_refused_even_where_overflow_is_accepted(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 2], "input"), 1.0, 4)
    bias = m.weight(np.array([40000.0, 0.0]), 1.0, 18)
    m.output(m.node("Gemm", x, m.weight(np.eye(2), 1.0, 3), bias, transB=1), [1, 2])
    integer, _ = run_passes(import_bytes(m, tmp_path), pipeline(TargetLimits(16, "the TCU"), allow_overflow=True))
    with pytest.raises(CompileError, match="the bias leaves the accumulator"):
        TensilTarget().lower(integer, TargetOptions(allow_overflow=True))


def test_a_coarse_bound_of_factored_sums_does_not_refuse(tmp_path: Path) -> None:
    """Column 0 of the kernel is heavy, the others are not: the sum of three column bounds leaves 16 bits."""
    weight = np.ones((10, 16, 3, 3))
    weight[8:, :, :, 0] = 30
    m = ModelBuilder()
    x = m.quant(m.input([1, 16, 16, 16], "input"), 1.0, 4, signed=0)
    y = m.node("Conv", x, m.weight(weight, 1.0, 6), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    m.output(m.quant(y, 64.0, 8, signed=0), [1, 10, 16, 16])
    check(lower(import_bytes(m, tmp_path)), tmp_path)


def test_sums_at_different_natural_exponents(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 3, 3], "input"), 1.0, 1, signed=0)
    three = m.node("Add", m.node("Add", x, x), x)
    m.output(m.node("Concat", x, three, x, axis=1), [1, 6, 3, 3])
    check(lower(import_bytes(m, tmp_path)), tmp_path, replace(BOARD, data_type=DataType["FP32BP16"]))


def test_every_fault_of_a_model_is_named(tmp_path: Path) -> None:
    """A refused operation does not bring down what follows it."""
    m = ModelBuilder()
    _, f = flat(m, [1, 3, 2, 2])
    bias = m.constant(np.linspace(-1, 1, 12))
    y = m.quant(m.node("Add", f, bias), 0.125, 4)
    m.output(m.node("Gemm", y, m.weight(np.eye(12), 0.25, 4), transB=1), [1, 12])
    with pytest.raises(CompileError, match="Quant per feature after Flatten"):
        check(lower(import_bytes(m, tmp_path)), tmp_path)


@pytest.mark.parametrize("bits", [3, 5])
def test_an_input_step_above_one_is_placed_compactly(bits: int, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, 4, 4], "input"), 8.0, bits, signed=0)
    m.output(m.node("Conv", x, m.weight(np.ones((2, 3, 3, 3)), 0.5, 2)), [1, 2, 2, 2])
    check(lower(import_bytes(m, tmp_path)), tmp_path)


@pytest.mark.parametrize("local_depth", [16, 20, 24, 400])
def test_padding_larger_than_the_kernel(local_depth: int, tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    m = ModelBuilder()
    x = m.quant(m.input([1, 20, 9, 9], "input"), 1.0, 3)
    weight = m.weight(r.integers(-1, 2, (2, 20, 2, 1)).astype(float), 1.0, 2)
    m.output(m.node("Conv", x, weight, kernel_shape=[2, 1], pads=[0, 3, 0, 0]), [1, 2, 8, 12])
    check(lower(import_bytes(m, tmp_path)), tmp_path, replace(BOARD, local_depth=local_depth, array_size=4))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (replace(BOARD, local_depth=8), "local memory has 8 vectors, one tile of weights needs 9"),
        (
            replace(BOARD, accumulator_depth=2),
            r"the accumulators have 2 vectors, \d constants and two lanes of work need \d",
        ),
        (replace(BOARD, dram0_depth=40), r"DRAM0 has 40 vectors, tensor .* needs 9 free and finds \d"),
        (replace(BOARD, dram1_depth=4), r"DRAM1 has 4 vectors, the weights (alone|and constants) need \d+"),
    ],
)
def test_a_memory_that_is_too_small_is_named(architecture: Architecture, message: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, 6, 6], "input"), 0.125, 4)
    y = m.quant(m.node("Conv", x, m.weight(np.ones((4, 3, 3, 3)), 0.25, 3)), 0.25, 4)
    m.output(m.node("MaxPool", y, kernel_shape=[2, 2]), [1, 4, 3, 3])
    with pytest.raises(CompileError, match=message) as e:
        check(lower(import_bytes(m, tmp_path)), tmp_path, architecture)
    assert "use an architecture" in str(e.value)


def test_one_tensor_may_be_two_outputs_and_be_read_inside(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, 4, 4], "input"), 0.125, 4)
    y = m.quant(m.node("Conv", x, m.weight(np.ones((3, 3, 1, 1)), 0.25, 3)), 0.125, 4)
    z = m.quant(m.node("Add", x, y), 0.25, 4)
    m.output(y, [1, 3, 4, 4])
    m.output(z, [1, 3, 4, 4])
    m.output(x, [1, 3, 4, 4])
    check(lower(import_bytes(m, tmp_path)), tmp_path)


def test_a_maximum_is_placed_where_its_reader_needs_it(tmp_path: Path) -> None:
    """Wide weights after the pool need the activations one bit up; the maximum passes that on to what it reads."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 6, 6], "input"), 1.0, 3)
    y = m.quant(m.node("Conv", x, m.weight(np.ones((2, 2, 3, 3)), 1.0, 2)), 4.0, 3)
    pooled = m.node("Flatten", m.node("MaxPool", y, kernel_shape=[2, 2]))
    weight = np.zeros((1, 18))
    weight[0, :3] = (200, -100, 50)
    m.output(m.node("Gemm", pooled, m.weight(weight, 1.0, 9), transB=1), [1, 1])
    check(lower(import_bytes(m, tmp_path)), tmp_path)


def wide_sums(m: ModelBuilder) -> str:
    """Accumulators that need all 16 bits."""
    x = m.quant(m.input([1, 64, 1, 1], "input"), 1.0, 8)
    return m.node("Conv", x, m.weight(np.full((1, 64, 1, 1), 3.0), 1.0, 4))


@pytest.mark.parametrize(("scale", "bits"), [(64.0, 8), (1.0, 8), (3.0, 5)])
def test_a_floor_that_needs_17_bits_may_saturate_where_the_clip_would_act(
    scale: float, bits: int, tmp_path: Path
) -> None:
    m = ModelBuilder()
    m.output(m.quant(wide_sums(m), scale, bits, rounding="FLOOR"), [1, 1, 1, 1])
    graph = lower(import_bytes(m, tmp_path))
    assert emit(graph, BOARD, tmp_path).computed is None
    check(graph, tmp_path)


def test_codes_as_wide_as_the_words_leave_multiplications_no_room(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(wide_sums(m), 0.7, 16), [1, 1, 1, 1])
    with pytest.raises(CompileError, match=r"no rounding shift.*multiplications per channel"):
        check(lower(import_bytes(m, tmp_path)), tmp_path)


@pytest.mark.parametrize("bias", [-300, -200, -150, 100, 150, 200, 300])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_channel_beyond_the_codes_takes_no_addend_beyond_a_word(bias: int, scale: float, tmp_path: Path) -> None:
    """All its codes are the lowest or the highest, and the offset that makes them so may be no word. Then
    multiplications per channel do it, whose codes are predicted where they are not exact.
    """
    m = ModelBuilder()
    x = m.quant(m.input([1, 4, 3, 3]), 1.0, 3)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (3, 4, 1, 1))
    made = m.node("Conv", x, m.weight(signs, 1.0, 2), m.constant([0.3, bias + 0.25, -0.4]))
    m.output(m.quant(made, scale, 8))
    graph = lower(import_bytes(m, tmp_path))
    emission = emit(graph, replace(BOARD, data_type=DataType["FP8BP4"]), tmp_path)
    inputs = random_codes(graph, 0, batch=4)
    expected, found = run_codes(emission.computed or graph, inputs), simulate(graph, emission, tmp_path, inputs)
    (output,) = graph.outputs
    assert np.array_equal(found[output.name], expected[output.value.name])
    assert (emission.computed is None) == (scale == 1 or abs(bias) < 300)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("axis", [2, 3])
def test_rows_and_columns_are_not_concatenated(channels: int, axis: int, tmp_path: Path) -> None:
    """No frontend makes such a graph, but a pass may."""
    b = GraphBuilder("g")
    x = b.input((1, channels, 3, 4))
    with pytest.raises(CompileError, match=f"Concat along axis {axis} is not supported on the TCU"):
        check(b.graph(b.concat((x, b.clamp(x, -2, 3)), axis)), tmp_path)


def test_lanes_that_a_clip_moved_off_zero_stay_so_through_a_maximum(tmp_path: Path) -> None:
    """Of 12 lanes 5 hold channels, the others the clip's lowest code; the array still holds 12 rows of weights."""
    m, r = ModelBuilder(), np.random.default_rng(0)
    x = m.quant(m.input([1, 12, 4, 4]), 0.25, 4)
    x = m.quant(m.node("Conv", x, m.weight(r.integers(-7, 8, (12, 12, 1, 1)) / 8, 0.125, 4)), 0.25, 4)
    y = m.node("Conv", x, m.weight(r.integers(1, 8, (5, 12, 1, 1)) / 8, 0.125, 4))
    clipped = m.quant(m.node("Clip", y, m.constant(0.5), m.constant(1.5)), 0.25, 4)
    pooled = m.node("MaxPool", clipped, kernel_shape=[2, 2], strides=[2, 2])
    m.output(m.quant(m.node("Conv", pooled, m.weight(r.integers(1, 8, (5, 5, 1, 1)) / 8, 0.125, 4)), 0.25, 6))
    check(lower(import_bytes(m, tmp_path)), tmp_path, load_architecture("custom_perf"))


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("room", [True, False])
def test_what_the_bias_has_no_room_for_is_added_after_the_shift_and_sends_ties_where_it_did(
    shift: int, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round half to even of (a + offset) / 2^shift, in exact rationals, for every sum and every offset."""
    monkeypatch.setattr(group_requantize, "sums_fit", lambda *_: room)
    requantizer = Mock(spec=GroupRequantizer, per_channel=True)
    steps = Mock(exponent=0, bias=np.zeros(1, dtype=np.int64), by_channel=(np.array([-20]), np.array([20])))
    for offset in range(-40, 41):
        bias, after = GroupRequantizer._split_offset(requantizer, steps, np.array([offset]), shift)
        assert room <= (after[0] == 0)
        for a in range(-20, 21):
            wanted = round_fraction(Fraction(a + offset, 1 << shift))
            assert round_fraction(Fraction(a + int(bias[0]), 1 << shift)) + after[0] == wanted
        assert room or 0 <= bias[0] < 2 << shift, "codes take all they can"
