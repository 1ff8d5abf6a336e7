"""Estimates corrected by their residual: every code of every sum, by the interpreter; programs, simulated."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensil_support import simulate

from integer_graphs import GraphBuilder
from pefslc.analysis.verify import verify
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.ir.value import Value
from pefslc.numeric.staircase import Staircase
from pefslc.targets.protocol import Emission, TargetOptions
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, load_architecture
from pefslc.targets.tensil.target import TensilTarget
from pefslc.targets.tensil.wide.fine_words import find_words
from pefslc.targets.tensil.wide.long_words import find_long_words
from pefslc.targets.tensil.wide.residual import Demands
from pefslc.targets.tensil.wide.shares import shares
from pefslc.targets.tensil.wide.split_sums import WideSums, split_sums
from pefslc.targets.tensil.wide.widest_line import widest_line

Array = np.ndarray
BOARD = load_architecture("pynqz1")
FAR = 1 << 40


def lines(value: Value, slope: Array, start: Array, codes: tuple[int, int]) -> Staircase:
    """In each channel, code low + i + 1 from the first sum at or above start + slope * i."""
    low, high = value.type.codes.low, value.type.codes.high
    steps = np.arange(codes[1] - codes[0])
    thresholds = np.ceil(start[:, None] + slope[:, None] * steps).astype(np.int64)
    return Staircase(low, high, codes[0], np.clip(thresholds, low, high + 1), np.ones(len(slope), dtype=np.int64))


def one_requantization(seed: int, data_type: DataType, bits: int) -> Graph:
    """A word in, its code out: BatchNorm that is kept, in a few channels."""
    rng, width = np.random.default_rng(seed), data_type.width_bits
    channels, rows = int(rng.integers(1, 5)), 1 << bits
    b = GraphBuilder(f"line{seed}")
    x = b.input((1, channels, 1, 1), width, signed=True)
    # Channels reach all codes or some, as those of a layer do.
    slope = 2.0 ** rng.uniform(0, width - bits) * rng.uniform(0.2, 1.0, channels)
    start = rng.uniform(-1.0, 0.0, channels) * np.minimum(slope * rows, 1 << width - 1)
    low = int(rng.choice([0, -rows // 2]))
    return b.graph(b.steps(x, lines(x, slope, start, (low, low + rows - 1))))


def corrected(graph: Graph, data_type: DataType) -> WideSums:
    (output,) = graph.outputs
    return split_sums(graph, replace(BOARD, data_type=data_type), correct={output.value.name})


def agrees_on_every_word(graph: Graph, wide: WideSums) -> bool:
    x, (output,) = graph.inputs[0], graph.outputs
    shape = x.value.type.shape[1:]
    words = np.arange(x.value.type.codes.low, x.value.type.codes.high + 1)
    inputs = {x.name: np.broadcast_to(words.reshape(-1, *(1 for _ in shape)), (len(words), *shape)).copy()}
    expected = run_codes(graph, inputs)[output.value.name]
    return np.array_equal(run_codes(wide.graph, inputs)[output.value.name], expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 4))
def test_what_is_corrected_is_the_code_of_every_word_of_8_bits(seed: int, bits: int) -> None:
    graph = one_requantization(seed, DataType.FP8BP4, bits)
    wide = corrected(graph, DataType.FP8BP4)
    assert verify(wide.graph) == []
    assert agrees_on_every_word(graph, wide)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 8))
def test_every_line_of_up_to_8_bits_is_corrected_and_is_the_code_of_every_word(seed: int, bits: int) -> None:
    graph = one_requantization(seed, DataType.FP16BP8, bits)
    wide = corrected(graph, DataType.FP16BP8)
    assert wide.corrections
    assert verify(wide.graph) == []
    assert agrees_on_every_word(graph, wide)


@pytest.mark.parametrize("low", [0, -512], ids=["from 0", "around 0"])
def test_ten_bits_are_corrected_whatever_the_slopes_of_their_channels(low: int) -> None:
    rng = np.random.default_rng(low + 512)
    b, slope = GraphBuilder("ten"), rng.uniform(20, 63.9, 24)
    x = b.input((1, len(slope), 1, 1), 16, signed=True)
    start = rng.uniform(-32768, 32767 - 1023 * slope)
    graph = b.graph(b.steps(x, lines(x, slope, start, (low, low + 1023))))
    wide = corrected(graph, DataType.FP16BP8)
    assert wide.corrections
    assert verify(wide.graph) == []
    assert agrees_on_every_word(graph, wide)


def falling_here_and_there(seed: int, bits: int, width: int, pixels: tuple[int, ...]) -> Graph:
    """Codes of `bits` bits of a word of `width`, which fall in some channels."""
    rng = np.random.default_rng(seed)
    b, channels, half = GraphBuilder(f"falls{seed}"), int(rng.integers(1, 5)), 1 << width - 1
    x = b.input((1, channels, *pixels), width, signed=True)
    slope = rng.uniform(half / 4, 1.8 * half, channels) / (1 << bits)
    rising = lines(x, slope, rng.uniform(-half, 0, channels), (0, (1 << bits) - 1))
    direction = rng.choice([-1, 1], channels)
    direction[0] = -1
    falling = np.where(rising.thresholds == half, -half - 1, np.minimum(-rising.thresholds, half - 1))
    thresholds = np.where(direction[:, None] < 0, falling, rising.thresholds)
    return b.graph(b.steps(x, replace(rising, thresholds=thresholds, direction=direction)))


PIXELS = pytest.mark.parametrize("pixels", [(), (1,), (1, 1)], ids=["2 axes", "3 axes", "4 axes"])


@PIXELS
def test_codes_that_fall_in_some_channels_are_corrected(pixels: tuple[int, ...]) -> None:
    for seed in range(4):
        graph = falling_here_and_there(seed, 8, 15, pixels)
        wide = corrected(graph, DataType.FP16BP8)
        assert wide.corrections
        assert verify(wide.graph) == []
        assert agrees_on_every_word(graph, wide)


@PIXELS
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 32), bits=st.integers(1, 4), width=st.sampled_from([6, 7, 8]))
def test_what_falls_and_is_corrected_is_the_code_of_every_word_of_8_bits(
    seed: int, bits: int, width: int, pixels: tuple[int, ...]
) -> None:
    graph = falling_here_and_there(seed, bits, width, pixels)
    wide = corrected(graph, DataType.FP8BP4)
    assert verify(wide.graph) == []
    assert agrees_on_every_word(graph, wide)
    assert not (wide.corrections and width == 8)  # -128 has no other sign


def test_steps_on_no_line_are_not_corrected() -> None:
    rng = np.random.default_rng(0)
    b = GraphBuilder("scattered")
    x = b.input((1, 1, 1, 1), 16, signed=True)
    thresholds = np.sort(rng.integers(-30000, 30000, (1, 99)), axis=1)
    stairs = Staircase(-32768, 32767, 0, thresholds, np.ones(1, dtype=np.int64))
    graph = b.graph(b.steps(x, stairs))
    wide = corrected(graph, DataType.FP16BP8)
    assert not wide.corrections
    assert agrees_on_every_word(graph, wide)


def test_an_estimate_that_is_two_off_is_refused() -> None:
    steps = np.array([[10, 20, 30]])
    assert Demands.of(steps, steps - 5, (0, 40)).close
    assert Demands.of(steps, steps - 9, (0, 40)).close
    assert not Demands.of(steps, steps - 11, (0, 40)).close  # two more
    assert not Demands.of(steps, steps + 1, (0, 40)).close  # one less


def test_a_residual_that_answers_wrongly_at_one_sum_is_refused() -> None:
    steps = np.array([[10, 20, 30]])
    demands = Demands.of(steps, steps - 5, (0, 40))
    own = np.array([[-FAR, 10, 20, 30]])
    assert demands.answered(lambda sums: sums - own)
    assert demands.met(own).all()
    for code in (1, 2, 3):
        for by in (-1, 1):
            other = own.copy()
            other[0, code] += by
            assert not demands.answered(lambda sums, other=other: sums - other)
            assert not demands.met(other).all()


def test_words_for_what_is_left_are_within_their_bounds_or_not_found() -> None:
    rng, codes = np.random.default_rng(3), np.arange(-100, 101)
    wanted = np.stack([np.floor(codes * s + 0.3).astype(np.int64) for s in (-0.41, 0.003, 0.27)])
    found = find_words(codes, wanted, wanted, np.array([-0.41, 0.003, 0.27]), DataType.FP16BP8)
    assert found.found.all()
    assert np.array_equal(found.values(codes, DataType.FP16BP8), wanted)
    scattered = rng.integers(-50, 50, (1, len(codes)))
    assert not find_words(codes, scattered, scattered, np.zeros(1), DataType.FP16BP8).found.any()
    assert find_long_words(codes, scattered, scattered, DataType.FP16BP8) is None


@settings(max_examples=30)
@given(st.integers(0, 1 << 32), st.integers(4, 10))
def test_digits_make_every_code_of_a_line_and_no_sum_of_theirs_saturates(seed: int, bits: int) -> None:
    rng, codes = np.random.default_rng(seed), np.arange(-1 << bits - 1, 1 << bits - 1)
    slope = rng.uniform(-0.5, 0.5, 3)
    wanted = np.floor(codes * slope[:, None] + rng.uniform(0, 1, (3, 1))).astype(np.int64)
    found = find_long_words(codes, wanted, wanted, DataType.FP16BP8)
    assert found is not None
    assert np.array_equal(found.values(codes, DataType.FP16BP8), wanted)
    assert found.fits(codes, DataType.FP16BP8)
    for digit in found.digits:
        assert not (digit.factor & 1).any()
        assert (digit.offset & 1).all()
    wider = replace(found.digits[0], offset=found.digits[0].offset + 32766)
    assert not replace(found, digits=(wider, *found.digits[1:])).fits(codes, DataType.FP16BP8)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 5)), min_size=2, max_size=7))
def test_the_widest_line_is_as_wide_as_any_through_two_corners(bounds: list[tuple[int, int]]) -> None:
    least = np.array([low for low, _ in bounds])
    most, codes = least + [more for _, more in bounds], np.arange(len(bounds))
    found = widest_line(codes, least[None], most[None], FAR)

    def width(slope: Fraction) -> Fraction:
        above, below = ([int(end) - slope * j for j, end in enumerate(row)] for row in (most, least))
        return min(above) - max(below)

    ends = [(j, int(end)) for row in (least, most) for j, end in enumerate(row)]
    widest = max(width(Fraction(b - a, j - i)) for i, a in ends for j, b in ends if i != j)
    assert abs(found.width[0] - float(widest)) < 1e-6
    line = found.slope[0] * codes + found.start[0]
    assert (line - least >= found.width[0] / 2 - 1e-6).all()
    assert (most - line >= found.width[0] / 2 - 1e-6).all()


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(-40000, 40000)), min_size=1), st.integers(-600, 600), st.data()
)
def test_each_share_of_a_multiple_is_a_word_in_whatever_order_it_is_summed(
    rows: list[tuple[int, int]], low: int, data: st.DataObject
) -> None:
    high, data_type = low + data.draw(st.integers(1, 1023)), DataType.FP16BP8
    factor, offset = (np.array(part, dtype=np.int64) for part in zip(*rows, strict=True))
    found = shares(factor, offset, low, high, data_type)
    if found is None:
        return
    assert np.array_equal(sum(share for share, _ in found), factor)
    assert np.array_equal(sum(own for _, own in found), offset)
    for share, own in found:
        products = np.stack([-share * low, -share * high])
        for word in (products, own, products + own):
            assert data_type.min_code <= word.min()
            assert word.max() <= data_type.max_code
        assert np.abs(share).max() <= 127


def test_a_multiple_of_codes_up_to_511_has_shares() -> None:
    found = shares(np.array([75]), np.array([20000]), 0, 511, DataType.FP16BP8)
    assert found is not None
    assert len(found) == 2


# --- programs ---------------------------------------------------------------------------------------------------------


def emitted(graph: Graph, architecture: Architecture, folder: Path, *, require_exact: bool) -> Emission:
    import json

    tarch = folder / "a.tarch"
    tarch.write_text(json.dumps(architecture.to_json_dict()))
    emission = TensilTarget(arch=tarch).lower(graph, TargetOptions(require_exact=require_exact))
    for name, content in emission.files.items():
        (folder / name).write_bytes(content)
    return emission


def layer_with_batch_norm(seed: int, bits: int, top: int, *, flat: bool = False) -> Graph:
    """8-bit codes, weights up to `top`, and a staircase of `bits` bits with a slope for each channel."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"kept{seed}")
    channels, outputs = int(rng.integers(3, 7)), int(rng.integers(2, 9))
    x = b.input((1, channels) if flat else (1, channels, 4, 3), 8, signed=False)
    if flat:
        s = b.dense(x, rng.integers(-top, top + 1, (outputs, channels)), rng.integers(-300, 300, outputs))
    else:
        weight = rng.integers(-top, top + 1, (outputs, channels, 3, 3))
        s = b.conv(x, weight, rng.integers(-300, 300, outputs), pads=(1, 1, 1, 1))
    reach = min(-s.type.codes.low, s.type.codes.high)
    slope = reach / (1 << bits) * rng.uniform(0.2, 1.0, outputs)
    return b.graph(b.steps(s, lines(s, slope, rng.uniform(-reach / 4, 0, outputs), (0, (1 << bits) - 1))))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("bits", "top"),
    [(8, 6), (6, 5), (8, 40), (8, 127), (5, 100), (10, 12)],
    ids=["narrow", "six", "wide", "coarse", "few", "ten"],
)
def test_a_program_that_is_required_to_be_exact_is(bits: int, top: int, flat: bool, tmp_path: Path) -> None:
    for seed, array_size in enumerate((4, 8)):
        graph = layer_with_batch_norm(seed + 10 * bits, bits, top, flat=flat)
        emission = emitted(graph, replace(BOARD, array_size=array_size), tmp_path, require_exact=True)
        assert emission.computed is None
        assert all(report.exact for report in emission.ops.values())
        assert set(emission.ops) == {op.result.name for op in graph.ops}
        x = np.random.default_rng(seed).integers(0, 256, (3, *graph.inputs[0].value.type.shape[1:]))
        x[1] = np.random.default_rng(seed).choice([0, 255], x.shape[1:])
        (output,) = graph.outputs
        expected = run_codes(graph, {"x0": x})[output.value.name]
        assert np.array_equal(simulate(graph, emission, tmp_path, {"x0": x})[output.name], expected)


def test_a_coarse_sum_is_corrected_by_its_words_behind_a_reshape(tmp_path: Path) -> None:
    """Exporters write a convolution of a sequence as one of an image, and flatten its sums before the quantizer."""
    rng, b = np.random.default_rng(5), GraphBuilder("sequence")
    s = b.conv(b.input((1, 6, 1, 12), 8, signed=False), rng.integers(-127, 128, (4, 6, 1, 9)), pads=(0, 4, 0, 4))
    moved = b.reshape(s, (1, 4, 12))
    reach = min(-s.type.codes.low, s.type.codes.high)
    slope, start = reach / 256 * rng.uniform(0.6, 1.0, 4), rng.uniform(-reach / 4, 0, 4)
    graph = b.graph(b.steps(moved, lines(moved, slope, start, (0, 255))))
    wide = split_sums(graph, BOARD)
    (output,) = graph.outputs
    assert wide.stands == {}, "what is corrected is the code of the whole sum"
    assert output.value.name in wide.corrections
    emission = emitted(graph, BOARD, tmp_path, require_exact=True)
    assert all(report.exact for report in emission.ops.values())
    x = rng.integers(0, 256, (3, 6, 1, 12))
    expected = run_codes(graph, {"x0": x})[output.value.name]
    assert len(np.unique(expected)) > 20
    assert np.array_equal(simulate(graph, emission, tmp_path, {"x0": x})[output.name], expected)


def test_narrow_sums_are_corrected_where_exactness_is_required_and_only_there(tmp_path: Path) -> None:
    graph = layer_with_batch_norm(3, 8, 6)
    bounded = emitted(graph, BOARD, tmp_path, require_exact=False)
    exact = emitted(graph, BOARD, tmp_path, require_exact=True)
    again = emitted(graph, BOARD, tmp_path, require_exact=True)
    assert bounded.computed is not None
    assert exact.computed is None
    assert bounded.cycles is not None
    assert exact.cycles is not None
    assert bounded.cycles < exact.cycles
    assert exact.files == again.files
