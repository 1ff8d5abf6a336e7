"""Sums too wide for a word behind a shift: the sign of a remainder is all that it wants to know of the last bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, simulate

from integer_graphs import GraphBuilder
from pefslc.ir.interpret import run_codes
from pefslc.numeric.rounding import round_shift
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.wide.split_sums import split_sums
from pefslc.targets.tensil.wide.staircase_of_sum import Stand

BOARD = load_architecture("pynqz1")
SUMS = np.arange(-900, 901)


def shift(low: int, high: int, bits: int, codes: tuple[int, int], offset: int = 0) -> Staircase:
    """Half to even of (sum + offset) / 2^bits, clipped."""
    wanted = np.arange(codes[0] + 1, codes[1] + 1)
    exact = np.arange(low, high + 2)
    thresholds = low + np.searchsorted(round_shift(exact + offset, bits), wanted, side="left")
    return Staircase(low, high, codes[0], thresholds[None, :], np.ones(1, dtype=np.int64))


def sticky(sums: np.ndarray, coarser: int) -> np.ndarray:
    quotient = round_shift(sums, coarser + 1)
    return 2 * quotient + np.sign(sums - (quotient << coarser + 1))


@pytest.mark.parametrize("coarser", [1, 2, 3])
@pytest.mark.parametrize("bits", [3, 4, 5, 6])
def test_the_sign_of_a_remainder_tells_every_step_of_a_shift_apart(bits: int, coarser: int) -> None:
    """Every sum: half of them ties or beside one, at 3 bits."""
    for offset in (0, 1, -5, 7):
        staircase = shift(-900, 900, bits, (-12, 11), offset)
        stand = Stand(np.array([offset]), coarser, sticky=True)
        words = sticky(SUMS + offset, coarser)
        asked = stand.asked_of(staircase, int(words.min()), int(words.max()))
        assert stand.tells_apart(staircase) == (bits >= coarser + 2)
        if stand.tells_apart(staircase):
            assert np.array_equal(asked(words[None])[0], staircase(SUMS[None])[0])
            assert np.array_equal(stand.answered(staircase, asked).thresholds, staircase.thresholds)


def test_a_step_beside_a_shift_is_not_told_apart() -> None:
    staircase = shift(-900, 900, 5, (-12, 11))
    stand = Stand(np.zeros(1, dtype=np.int64), 2, sticky=True)
    assert stand.tells_apart(staircase)
    for step in (0, 11, 22):
        for by in (-2, 2):
            moved = staircase.thresholds.copy()
            moved[0, step] += by
            assert not stand.tells_apart(replace(staircase, thresholds=moved))


@pytest.mark.parametrize(("top", "bits", "half"), [(127, 9, 128), (100, 9, 128), (127, 10, 128), (127, 10, 8)])
@pytest.mark.parametrize("signed", [False, True])
def test_a_coarse_sum_behind_a_shift_is_exact_by_the_sign_of_a_remainder(
    top: int, bits: int, half: int, signed: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(top + bits)
    b = GraphBuilder("sticky")
    x = b.input((1, 6, 4, 4), 8, signed=False)
    s = b.conv(x, rng.integers(-top, top + 1, (5, 6, 3, 3)), rng.integers(-9000, 9000, 5), pads=(1, 1, 1, 1))
    codes = (-half, half - 1) if signed else (0, 2 * half - 1)
    graph = b.graph(b.steps(s, shift(s.type.codes.low, s.type.codes.high, bits, codes)))
    architecture = replace(BOARD, array_size=4)
    wide = split_sums(graph, architecture)
    assert not wide.corrections
    (plan,) = wide.plans.values()
    assert "the sign of the remainder" in str(plan)
    emission = emit(graph, architecture, tmp_path)
    assert emission.computed is None
    inputs = rng.integers(0, 256, (4, 6, 4, 4))
    inputs[1] = rng.choice([0, 255], inputs.shape[1:])
    (output,) = graph.outputs
    expected = run_codes(graph, {"x0": inputs})[output.value.name]
    assert np.array_equal(simulate(graph, emission, tmp_path, {"x0": inputs})[output.name], expected)
    again = emit(graph, architecture, tmp_path)
    assert again.files == emission.files
