"""Requantization per channel: what the raw words compute, against exact rationals, for every accumulator word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensil_support import by_rationals, emit, line, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import run_codes
from pefslc.numeric.deviation import Deviations, deviations_of
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.words.channel_requantize import fit_channels

BOARD = load_architecture("pynqz1")
FP16, FP8 = DataType["FP16BP8"], DataType["FP8BP4"]


def check_words(staircase: Staircase, exponent: int, data_type: DataType) -> Deviations:
    """Every word of the domain: the staircase that is reported is what the steps compute. Returns where it differs."""
    low = np.full(staircase.channels, staircase.domain_low)
    high = np.full(staircase.channels, staircase.domain_high)
    found = fit_channels(staircase, low, high, exponent, data_type)
    assert found is not None
    codes = np.arange(staircase.domain_low, staircase.domain_high + 1)
    predicted = found.computed(np.tile(codes, (staircase.channels, 1)))
    for c in range(staircase.channels):
        words = [by_rationals(found.steps, c, int(a) << exponent, data_type) for a in codes]
        assert np.array_equal(np.clip(words, staircase.low, staircase.high), predicted[c])
    return deviations_of(staircase, found.computed, low, high)


@pytest.mark.parametrize("seed", range(8))
def test_every_word_is_computed_as_reported_and_short_staircases_nearly_exactly(seed: int) -> None:
    """Channels that rise, fall, or stay; of 48 channels of 4-bit codes, 47 are certified."""
    r = np.random.default_rng(seed)
    slopes = (r.uniform(0.005, 0.2, 6) * r.choice([1, -1], 6)).tolist()
    slopes[0] = 0.0
    staircase = line(-300, 280, (-8, 7), slopes, r.uniform(-6, 6, 6).tolist())
    assert check_words(staircase, exponent=seed % 4, data_type=FP16).differing <= 1


def test_a_long_staircase_is_off_by_one_at_most_and_where_is_known() -> None:
    staircase = line(-3000, 3000, (0, 255), [0.061, 0.043, -0.0517], [3.3, 100.7, 60.1])
    found = check_words(staircase, exponent=0, data_type=FP16)
    assert found.largest == 1
    assert 0 < found.differing < 100


def test_eight_bit_words_are_off_by_one_at_most() -> None:
    assert check_words(line(-40, 40, (0, 3), [0.0625, -0.125], [0.4, 1.7]), exponent=0, data_type=FP8).largest <= 1


def test_only_the_codes_that_can_occur_in_a_channel_count() -> None:
    """A kink outside of the channel's own range is no concern."""
    thresholds = np.array([[10, 20, 30, 31, 32]])
    staircase = Staircase(-100, 100, 0, thresholds, np.array([1]))
    everywhere = fit_channels(staircase, np.array([-100]), np.array([100]), 0, FP16)
    below = fit_channels(staircase, np.array([-100]), np.array([30]), 0, FP16)
    assert everywhere is not None
    assert below is not None
    assert everywhere.computed != staircase
    assert below.computed == staircase


def test_codes_of_two_apart_are_left_to_others() -> None:
    staircase = Staircase(-9, 9, -1, np.array([[0]]), np.array([1]), step=2)
    assert fit_channels(staircase, np.array([-9]), np.array([9]), 0, FP16) is None


def normalized(m: ModelBuilder, x: str, channels: int, seed: int) -> str:
    """A BatchNorm whose gammas rise, fall, and (once) vanish."""
    r = np.random.default_rng(seed)
    gamma = r.uniform(0.4, 2, channels) * r.choice([1, -1], channels)
    gamma[1] = 0
    parameters = (gamma, r.normal(0, 0.5, channels), r.normal(0, 0.5, channels), r.uniform(0.5, 2, channels))
    return m.node("BatchNormalization", x, *(m.constant(p) for p in parameters))


def network(folder: Path, scale: float, bits: int) -> Graph:
    """Convolutions with BatchNorm kept: grouped, dilated, asymmetrically padded; a residual; a mean over 9; Concat."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 4, 9, 9], "input"), 0.25, 4)
    r = np.random.default_rng(1)

    def conv(source: str, outputs: int, inputs: int, **attrs: object) -> str:
        weight = m.weight(r.normal(0, 0.4, (outputs, inputs, 3, 3)), 0.25, 4)
        return normalized(m, m.node("Conv", source, weight, **attrs), outputs, outputs)

    y = m.quant(conv(x, 6, 4, pads=[1, 0, 1, 2]), scale, bits)
    y = m.quant(m.node("Relu", conv(y, 6, 1, group=6, dilations=[2, 2], pads=[2, 2, 2, 2])), scale, bits, signed=0)
    z = m.quant(conv(y, 6, 3, group=2, pads=[1, 1, 1, 1]), scale, bits)
    added = m.quant(m.node("Add", m.quant(y, scale, bits), z), 2 * scale, bits)
    both = m.node("Concat", added, m.quant(y, 2 * scale, bits), axis=1)
    pooled = m.node("AveragePool", both, kernel_shape=[3, 3], strides=[3, 3])
    m.output(m.quant(pooled, scale, bits), [1, 12, 3, 3])
    return lower(import_bytes(m, folder))


@pytest.mark.parametrize(
    ("scale", "bits", "arch"),
    [(0.31, 4, "pynqz1"), (0.31, 4, "cmoda7"), (0.25, 5, "cmoda7"), (0.25, 5, "zcu104"), (0.043, 8, "pynqz1")],
)
def test_networks_that_keep_batch_norm_run_as_predicted(scale: float, bits: int, arch: str, tmp_path: Path) -> None:
    """From the emitted files: every output code is the computed graph's, and the model's where all is certified."""
    graph = network(tmp_path, scale, bits)
    emission = emit(graph, load_architecture(arch), tmp_path)
    computed = emission.computed or graph
    inputs = random_codes(graph, 3, batch=3)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(computed, inputs)
    for output in graph.outputs:
        assert np.array_equal(found[output.name], expected[output.value.name])
    exact = all(report.exact for report in emission.ops.values())
    assert exact == (emission.computed is None)
    assert exact or bits == 8
    for op in computed.of_type(Requantize):
        deviations = emission.ops[op.result.name].deviations
        original = next(o for o in graph.of_type(Requantize) if o.result.name == op.result.name)
        assert (deviations is None) == (op.staircase == original.staircase)
        if deviations is not None:
            assert deviations.largest == 1
