"""Activations of native arithmetic: read off their staircases, and done by SIMD on every word."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.format import FixedPoint
from pefslc.numeric.line import line_of
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage
from pefslc.numeric.staircase import staircase_of
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.native.activations import fit_activation, fit_line
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.simd_steps import simd_operations
from pefslc.targets.tensil.simulate.simulator import Machine
from pefslc.targets.tensil.words.steps import LeakyRelu, Maximum, Minimum, apply_steps

FP16 = DataType["FP16BP8"]
F = Fraction
STAGES: list[tuple[tuple[Stage, ...], tuple[object, ...]]] = [
    ((), ()),
    ((LeakyReluStage(),), (Maximum(0),)),
    ((LeakyReluStage((F(1, 10),)),), (LeakyRelu(26),)),
    ((LeakyReluStage((F(1, 4),)),), (LeakyRelu(64),)),
    ((ClipStage(F(0), F(6)),), (Maximum(0), Minimum(6 * 256))),
    ((ClipStage(F(-1), F(1)),), (Maximum(-256), Minimum(256))),
    ((LeakyReluStage((F(1, 10),)), ClipStage(None, F(6))), (LeakyRelu(26), Minimum(6 * 256))),
]


@pytest.mark.parametrize("extra", [0, 1, 4, 8])
@pytest.mark.parametrize(("stages", "steps"), STAGES)
def test_activations_are_read_off_their_staircases(
    stages: tuple[Stage, ...], steps: tuple[object, ...], extra: int
) -> None:
    """With words of 8 fraction bits and with finer ones, for which clips beyond their range are none."""
    quantizer = Quantizer(FixedPoint(8, 8).quantization)
    staircase = staircase_of(Scale.power_of_two(-16), stages, quantizer, -(1 << 30), 1 << 30, 1)
    found = fit_activation(staircase, F(1 << extra, 256), F(1 << extra), FP16)
    assert found is not None
    expected = [s if isinstance(s, LeakyRelu) else replace(s, word=s.word << extra) for s in steps]
    assert list(found.steps) == [s for s in expected if FP16.min_code < s.word <= FP16.max_code]
    highest = FP16.max_code * 256 >> extra
    codes = np.arange(-highest, highest, 77)
    words = np.rint(codes / (256 >> extra)).astype(np.int64)
    words = apply_steps(found.steps, words, FP16)
    assert np.abs(words - staircase(codes[None])[0] * 2**extra).max() <= found.deviation


@pytest.mark.parametrize("extra", range(-8, 7))
def test_every_slope_is_a_leaky_relu_in_words_of_any_size(extra: int) -> None:
    """In coarser words than codes are, each rounding and that of the slope weigh more."""
    quantizer, unit = Quantizer(FixedPoint(8, 8).quantization), F(2) ** extra
    for alpha in (F(n, 97) for n in range(2, 97, 5)):
        stages = (LeakyReluStage((alpha,)),)
        staircase = staircase_of(Scale.power_of_two(-16), stages, quantizer, -(1 << 22), 1 << 22, 1)
        found = fit_activation(staircase, unit / 256, unit, FP16)
        assert found is not None, (extra, alpha)
        assert found.steps[0] == LeakyRelu(round(alpha * 256))
        assert abs(found.slope - alpha) < F(1, 1 << 13)


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize(("stages", "steps"), STAGES)
def test_a_line_gives_the_steps_of_its_staircase(
    stages: tuple[Stage, ...], steps: tuple[object, ...], extra: int
) -> None:
    """And its deviation bounds what they miss."""
    del steps
    quantizer, low, high = Quantizer(FixedPoint(8, 8).quantization), -(1 << 30), 1 << 30
    staircase = staircase_of(Scale.power_of_two(-16), stages, quantizer, low, high, 1)
    line = line_of(Scale.power_of_two(-16), stages, quantizer, low, high)
    assert line is not None
    units = F(1 << extra, 256), F(1 << extra)
    wanted, found = fit_activation(staircase, *units, FP16), fit_line(line, low, high, *units, FP16)
    assert wanted is not None
    assert found is not None
    assert found.steps == wanted.steps
    assert found.deviation >= wanted.deviation
    assert found.deviation < 2**7  # half a unit of slope, on the lowest word
    assert fit_line(line, low, high, units[0], 2 * units[1], FP16) is None


@pytest.mark.parametrize(
    ("stages", "rounding"),
    [
        ((Affine.bias((F(1),)),), RoundingMode.HALF_EVEN),
        ((LeakyReluStage((F(1, 10),)), Affine.bias((F(3),))), RoundingMode.HALF_EVEN),
        ((LeakyReluStage((F(3, 2),)),), RoundingMode.HALF_EVEN),  # steeper than SIMD steps can be
    ],
)
def test_what_is_no_activation_is_not_taken_for_one(stages: tuple[Stage, ...], rounding: RoundingMode) -> None:
    quantizer = Quantizer(FixedPoint(8, 8).quantization, rounding)
    staircase = staircase_of(Scale.power_of_two(-16), stages, quantizer, -(1 << 30), 1 << 30, 1)
    assert fit_activation(staircase, F(1, 256), F(1), FP16) is None


@pytest.mark.parametrize("unit", range(1, 9))
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_clip_is_left_out_only_where_it_moves_no_word_further_than_rounding_does(bits: int, unit: int) -> None:
    """Codes of `unit` words, and sums in words that reach beyond them, by more and more."""
    quantizer, highest = Quantizer(FixedPoint(bits, 0).quantization), (1 << bits - 1) - 1
    for beyond in range(2 * unit):
        low, high = -(highest + 1) * unit - beyond, highest * unit + beyond
        staircase = staircase_of(Scale((F(1, unit),)), (), quantizer, low, high, 1)
        found = fit_activation(staircase, F(1), F(unit), FP16)
        assert found is not None
        words = np.arange(low, high + 1)
        missed = np.abs(apply_steps(found.steps, words, FP16) - staircase(words[None])[0] * unit).max()
        assert missed == found.deviation <= F(1 + unit, 2)
        assert not any(isinstance(step, LeakyRelu) for step in found.steps), "few codes make no slope"
        assert len(found.steps) == (2 if beyond > F(1 + unit, 2) else 0)


@pytest.mark.parametrize("word", [1, 26, 128, 255])
def test_leaky_relu_by_simd_on_every_word(word: int, custom_perf: Architecture) -> None:
    """With spare accumulators for three vectors, on all 65,536 words, in the simulator."""
    from pefslc.targets.tensil.machine.instructions import MoveKind
    from pefslc.targets.tensil.schedule.emitter import Emitter

    step, a = LeakyRelu(word), custom_perf.array_size
    words = np.arange(FP16.min_code, FP16.max_code + 1, dtype=np.int64)
    vectors = np.resize(words, (-(-len(words) // a), a))
    factor = step.complement(FP16)
    for chunk in np.array_split(vectors, 4):
        emitter = Emitter(custom_perf, {0: 2040, factor: 2041, 256: 2042})
        rows = np.concatenate([chunk, np.zeros((1, a)), np.full((1, a), factor), np.full((1, a), 256)]).astype(np.int64)
        emitter.dram(MoveKind.DRAM1_TO_LOCAL, 0, 0, len(rows))
        emitter.to_accumulators(len(chunk), 2040, 3)
        emitter.to_accumulators(0, 0, len(chunk))
        emitter.simd_later(simd_operations(step, 0, len(chunk), [0], range(2000, 2003), custom_perf))
        emitter.flush()
        emitter.from_accumulators(0, 0, len(chunk))
        program = TensilProgram.assemble(custom_perf, "t", emitter.instructions, constants=rows, inputs=[], outputs=[])
        machine = Machine(custom_perf, poison_seed=1)
        machine.load_constants(program)
        machine.run(program)
        expected = np.where(chunk >= 0, chunk, chunk + np.rint(np.minimum(chunk, 0) * factor / 256))
        assert np.array_equal(machine.local[: len(chunk)], expected)
