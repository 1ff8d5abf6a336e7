"""Requantization per channel by matrix steps: the same words as by SIMD steps, for every word, or no plan."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import Feature, import_bytes, lower, random_network
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.interpret import run_codes
from pefslc.numeric.rounding import round_fraction
from pefslc.targets.protocol import TargetOptions
from pefslc.targets.tensil.check.checker import check_program
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.matrix import channel_plan as channel_plan_module
from pefslc.targets.tensil.matrix.channel_plan import channel_plan
from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddWord,
    ChannelAddWord,
    ChannelDiagonal,
    ChannelDiagonalAgain,
    Diagonal,
    apply_matrix_steps,
)
from pefslc.targets.tensil.program.tmodel import load_tmodel
from pefslc.targets.tensil.schedule import schedule
from pefslc.targets.tensil.target import TensilTarget
from pefslc.targets.tensil.words.steps import (
    AddOffset,
    ChannelAdd,
    ChannelMultiply,
    Maximum,
    Minimum,
    Multiply,
    RawStep,
    apply_steps,
)

FP8, FP16 = DataType["FP8BP4"], DataType["FP16BP8"]


def clamp(word: int, data_type: DataType) -> int:
    return min(max(word, data_type.min_code), data_type.max_code)


def by_simd(steps: tuple[RawStep, ...], channel: int | None, word: int, data_type: DataType) -> int:
    """The SIMD steps on one word of a channel, or of a lane without one, in exact rationals."""
    for step in steps:
        match step:
            case Multiply():
                word = round_fraction(Fraction(word * step.word, data_type.one))
            case ChannelMultiply(words):
                word = round_fraction(Fraction(word * (0 if channel is None else words[channel]), data_type.one))
            case ChannelAdd(words):
                word += 0 if channel is None else words[channel]
            case Maximum():
                word = max(word, step.word)
            case Minimum():
                word = min(word, step.word)
            case AddOffset():
                word += step.word
        word = clamp(word, data_type)
    return word


def through_the_array(plan: MatrixPlan, lane: int, word: int, array_size: int, data_type: DataType) -> int:
    """The rows that each step loads, on a word in one of all the lanes: sums are rounded and saturated as one."""
    block, within = divmod(lane, array_size)
    read = 0
    for step in plan.steps:
        rows = step.rows(array_size, data_type.one)
        per_step = 1 if isinstance(step, AddWord | ChannelAddWord) else array_size + 1
        own = rows if isinstance(step, AddWord) else rows[block * per_step :][:per_step]
        bias = int(own[0, within])
        if per_step == 1:
            word = clamp(word + bias, data_type)
            continue
        column = own[1:, within]
        assert not np.delete(column, within).any()
        again = isinstance(step, ChannelDiagonalAgain)
        read = read if again else word
        product = clamp(round_fraction(Fraction(read * int(column[within]), data_type.one) + bias), data_type)
        word = clamp(word + product, data_type) if again else product
    return word


def random_steps(seed: int, channels: int, data_type: DataType) -> tuple[RawStep, ...]:
    """What `channel_requantize` may find: words of any size, falling channels, clips or none."""
    r = np.random.default_rng(seed)
    one, top = data_type.one, data_type.max_code
    first = r.integers(-top, top + 1, channels)
    steps: list[RawStep] = [ChannelMultiply(tuple(first.tolist()))]
    if r.random() < 0.8:
        steps.append(ChannelAdd(tuple(r.integers(-top // 4, top // 4, channels).tolist())))
    kind = r.integers(3)
    if kind == 0:
        steps.append(ChannelMultiply(tuple((1 << r.integers(0, one.bit_length(), channels)).tolist())))
    elif kind == 1:
        steps += [ChannelMultiply(tuple(r.integers(1, 2 * one, channels).tolist())), Multiply(1)]
    low = int(r.choice([0, 0, -4, -3, 1]))
    if r.random() < 0.8:
        steps.append(Maximum(low))
    if r.random() < 0.8:
        steps.append(Minimum(low + int(r.choice([3, 4, 7]))))
    return tuple(steps)


@pytest.mark.parametrize("block", range(8))
def test_every_word_of_every_lane_is_that_of_the_simd_steps(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All words of 8 bits, through the rows that the array would load; and few steps have no plan."""
    monkeypatch.setattr(channel_plan_module, "_TOGETHER", 3)  # of 4 channels
    channel_plan.cache_clear()
    found = 0
    for seed in range(block * 12, block * 12 + 12):
        steps, a = random_steps(seed, 4, FP8), 3
        if seed % 4 < 2:  # stored with an offset, which the second product of a plan may leave
            steps = *steps, AddOffset(-steps[-1].word - 1 if isinstance(steps[-1], Minimum) else 3)
        plan = channel_plan(steps, (-70, -128, -9, -100), (80, 127, 100, 3), FP8, again=seed % 2 == 0)
        if plan is None:
            continue
        found += 1
        ranges = (range(-70, 81), range(-128, 128), range(-9, 101), range(-100, 4), range(1), range(1))
        for lane, words in enumerate(ranges):
            channel = lane if lane < 4 else None
            assert [through_the_array(plan, lane, w, a, FP8) for w in words] == [
                by_simd(steps, channel, w, FP8) for w in words
            ]
    assert found >= 5


def test_a_second_product_clips_in_fewer_steps_and_needs_even_biases() -> None:
    """Every word of 8 bits. Where the largest code is even, the two products need not round at the same words."""
    a, low, high = 3, (-128, -128), (127, 127)
    for upper in (7, 8):
        steps: tuple[RawStep, ...] = ChannelMultiply((24, 40)), ChannelAdd((2, -4)), ChannelMultiply((4, 8))
        steps = *steps, Maximum(0), Minimum(upper), AddOffset(-upper - 1)
        plan, without = (channel_plan(steps, low, high, FP8, again=again) for again in (True, False))
        assert plan is not None
        assert without is not None
        assert isinstance(plan.steps[-1], ChannelDiagonalAgain) == (upper % 2 == 1)
        assert len(plan.steps) < len(without.steps) if upper % 2 else plan == without
        for lane, word in product(range(3), range(FP8.min_code, FP8.max_code + 1)):
            channel = lane if lane < len(low) else None
            assert through_the_array(plan, lane, word, a, FP8) == by_simd(steps, channel, word, FP8)


@pytest.mark.parametrize(("second", "is_one"), [(4, True), (3, False)])
def test_a_second_diagonal_that_is_the_same_for_all_channels_is_one_matrix(second: int, is_one: bool) -> None:
    """Every word of 8 bits, and of lanes without a channel: the first diagonal's bias leads those to 0, if one does. 5
    codes are 20 words that are multiplied by 4 / 16, and no number of words times 3 / 16.
    """
    steps = ChannelMultiply((24, 40)), ChannelAdd((2, -4)), Multiply(second), ChannelAdd((5, 5)), Maximum(0), Minimum(7)
    plan = channel_plan(steps, (-70, -128), (80, 127), FP8)
    assert plan is not None
    assert any(isinstance(step, Diagonal) for step in plan.steps) == is_one
    for lane, words in enumerate((range(-70, 81), range(-128, 128), range(1))):
        channel = lane if lane < 2 else None
        assert [through_the_array(plan, lane, w, 3, FP8) for w in words] == [
            by_simd(steps, channel, w, FP8) for w in words
        ]


@pytest.mark.parametrize("seed", range(6))
def test_all_words_of_16_bits(seed: int) -> None:
    """As BatchNorm on 8-bit codes has it: odd addends and negative ones, of which no bias makes a clip. Of each channel
    the words whose first product is one.
    """
    r = np.random.default_rng(seed)
    n = 5
    factors = r.integers(200, 6000, n) * r.choice([1, -1], n)
    high = np.minimum(32767 * 256 // np.abs(factors), 32767)
    steps = (
        ChannelMultiply(tuple(factors.tolist())),
        ChannelAdd(tuple(r.integers(-4000, 4000, n).tolist())),
        ChannelMultiply(tuple(r.choice([2, 4], n).tolist())),
        Maximum(0),
        Minimum(255),
    )
    plan = channel_plan(steps, tuple((-high).tolist()), tuple(high.tolist()), FP16)
    assert plan is not None
    assert len(plan.steps) == 5
    words = np.clip(np.arange(-32768, 32768), -high[:, None], high[:, None])
    padded = np.concatenate([words, np.zeros((1, words.shape[1]), dtype=np.int64)])
    by_matrix = apply_matrix_steps(plan.steps, padded, FP16)
    assert np.array_equal(by_matrix[:-1], apply_steps(steps, words, FP16))
    assert not by_matrix[-1].any()


def test_an_odd_bias_would_send_ties_to_the_other_code() -> None:
    """1 * 384 / 256 = 1.5 is 2, and 3 with 1 added; but added in the same sum, 2.5 is 2."""
    steps = ChannelMultiply((384,)), ChannelAdd((1,))
    assert channel_plan(steps, (2,), (2,), FP16) == MatrixPlan(0, (ChannelDiagonal((384, 0), (1, 0)),))
    plan = channel_plan(steps, (1,), (2,), FP16)
    assert plan == MatrixPlan(0, (ChannelDiagonal((384, 0), (0, -1)), AddWord(1)))


def test_an_even_addend_stays_in_its_bias_where_another_is_odd() -> None:
    """After the second product 1.5 * 3 = 4.5 an odd bias would send the tie to the other code."""
    steps = ChannelMultiply((384,)), ChannelAdd((2,)), ChannelMultiply((384,)), ChannelAdd((1,))
    plan = channel_plan(steps, (-9,), (9,), FP16)
    assert plan == MatrixPlan(0, (ChannelDiagonal((384, 0), (2, 0)), ChannelDiagonal((384, 0), (0, -1)), AddWord(1)))


@pytest.mark.parametrize("before", range(33))
def test_one_word_that_differs_is_found(before: int) -> None:
    """A half is the only tie, and lies anywhere between the words that are tried first."""
    steps = ChannelMultiply((1,)), ChannelAdd((1,))
    split = MatrixPlan(0, (ChannelDiagonal((1, 0), (0, -1)), AddWord(1)))
    assert channel_plan(steps, (128 - before,), (170,), FP16) == split
    assert channel_plan(steps, (128 - before,), (128,), FP16) == split
    assert channel_plan(steps, (-100 + before,), (128,), FP16) == split
    assert channel_plan(steps, (129,), (170 + before,), FP16) == MatrixPlan(0, (ChannelDiagonal((1, 0), (1, 0)),))


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 70])
def test_one_channel_that_differs_is_found(channels: int) -> None:
    """Only its words reach the tie."""
    steps = ChannelMultiply((1,) * channels), ChannelAdd((1,) * channels)
    low, high = [-9] * channels, [9] * channels
    plan = channel_plan(steps, tuple(low), tuple(high), FP16)
    assert plan is not None
    assert len(plan.steps) == 1
    for channel in {0, 1, channels // 2, channels - 1} & set(range(channels)):
        reaching = [128 if c == channel else 9 for c in range(channels)]
        plan = channel_plan(steps, tuple(low), tuple(reaching), FP16)
        assert plan is not None
        assert len(plan.steps) == 2


def test_steps_of_another_kind_have_no_plan() -> None:
    assert channel_plan((ChannelAdd((1, 2)), Maximum(0)), (-9, -9), (9, 9), FP16) is None
    assert channel_plan((Maximum(0), ChannelMultiply((3, 4))), (-9, -9), (9, 9), FP16) is None
    assert channel_plan((Maximum(0),), (-9, -9), (9, 9), FP16) is None


def test_rows_are_those_of_each_block_and_lanes_without_a_channel_have_the_last_words() -> None:
    assert np.array_equal(ChannelAddWord((5, 6, 7, -1)).rows(2, 256), [[5, 6], [7, -1]])
    rows = ChannelDiagonal((1, 2, 3, 0), (4, 5, 6, 9)).rows(2, 256)
    assert np.array_equal(rows, [[4, 5], [1, 0], [0, 2], [6, 9], [3, 0], [0, 0]])


# --- in networks ------------------------------------------------------------------------------------------------------

NETWORKS = Feature(float_scales=True, leaky=False, most_bits=5, most_channels=30, most_pixels=14)
MACHINES = ((12, 8192, 2048), (5, 900, 300), (8, 400, 150))  # array, local memory, accumulators


@pytest.mark.parametrize("seed", [0, 3, 4, 7, 8, 9, 13, 16, 18, 30])
def test_networks_run_as_predicted_and_in_fewer_cycles(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the emitted files, on arrays and memories of several sizes, constants resident or not."""
    graph = lower(import_bytes(random_network(seed, NETWORKS), tmp_path))
    size, local, accumulators = MACHINES[seed % 3]
    architecture = replace(
        load_architecture("pynqz1"), array_size=size, local_depth=local, accumulator_depth=accumulators
    )
    emission = emit(graph, architecture, tmp_path)
    assert check_program(load_tmodel(next(tmp_path.glob("*.tmodel")))) == []
    inputs = random_codes(graph, seed, batch=3)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(emission.computed or graph, inputs)
    for output in graph.outputs:
        assert np.array_equal(found[output.name], expected[output.value.name])
    monkeypatch.setattr(schedule, "ChannelRows", Mock(of=Mock(return_value=None)))
    without = TensilTarget(arch=tmp_path / "a.tarch").lower(graph, TargetOptions())
    assert emission.cycles is not None
    assert without.cycles is not None
    assert emission.cycles < without.cycles


def test_constants_stay_in_local_memory_where_they_do_without_the_rows(tmp_path: Path) -> None:
    """Three quarters of local memory hold them, but for a vector: then SIMD requantizes, for reading takes longer."""
    graph = lower(import_bytes(random_network(57, NETWORKS), tmp_path))
    inputs = random_codes(graph, 57)
    architecture = replace(load_architecture("pynqz1"), array_size=5)
    cycles, sizes = [], [8192]
    for _ in range(2):
        emission = emit(graph, replace(architecture, local_depth=sizes[-1]), tmp_path)
        program = load_tmodel(next(tmp_path.glob("*.tmodel")))
        assert program.load_consts_to_local
        found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(emission.computed or graph, inputs)
        assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
        vectors = sum(len(block.vectors) for block in program.constants)
        assert 2 * vectors <= sizes[-1]
        sizes.append(2 * (vectors - 1))
        cycles.append(emission.cycles)
    assert cycles[0] < cycles[1]


def test_where_dram1_has_no_room_for_the_rows_simd_requantizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = lower(import_bytes(random_network(57, NETWORKS), tmp_path))
    architecture = replace(load_architecture("pynqz1"), array_size=5, local_depth=300)
    with monkeypatch.context() as without:
        without.setattr(schedule, "ChannelRows", Mock(of=Mock(return_value=None)))
        emit(graph, architecture, tmp_path)
    least = sum(len(block.vectors) for block in load_tmodel(next(tmp_path.glob("*.tmodel"))).constants)
    emission = emit(graph, replace(architecture, dram1_depth=least), tmp_path)
    inputs = random_codes(graph, 57)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(emission.computed or graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
    with pytest.raises(CompileError, match=rf"DRAM1 has {least - 1} vectors, the weights and constants need {least}"):
        emit(graph, replace(architecture, dram1_depth=least - 1), tmp_path)


@pytest.mark.parametrize("block", range(4))
def test_a_plan_holds_words_only(block: int) -> None:
    """Addends and constants near the ends of a word, together in one bias, may leave it."""
    r = np.random.default_rng(block)
    found = 0
    for _ in range(60):
        top = FP8.max_code
        steps: tuple[RawStep, ...] = (
            ChannelMultiply(tuple(r.integers(1, 12, 3).tolist())),
            ChannelAdd(tuple((r.choice([-1, 1]) * r.integers(top // 2, top + 1, 3)).tolist())),
            ChannelMultiply(tuple((1 << r.integers(0, 5, 3)).tolist())),
            Maximum(int(r.integers(-100, 20))),
            Minimum(int(r.integers(21, 120))),
        )
        plan = channel_plan(steps, (-20, -9, 0), (20, 3, 60), FP8)
        if plan is not None:
            found += 1
            for step in plan.steps:
                rows = step.rows(3, FP8.one)
                assert FP8.min_code <= rows.min() <= rows.max() <= FP8.max_code
    assert found
