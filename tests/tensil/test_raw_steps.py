"""Clips in raw words: those that cannot act are left out, whether the codes or the data type see to it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.steps import Maximum, Minimum, StepSequence, apply_steps

FP8 = DataType["FP8BP4"]


@pytest.mark.parametrize("exponent", [0, 1, 3])
@pytest.mark.parametrize("codes", [(-300, 300), (-128, 127), (-9, 9), (-300, -200), (2, 5), (100, 300)])
def test_a_clip_is_done_as_far_as_a_word_can_and_never_in_vain(exponent: int, codes: tuple[int, int]) -> None:
    """Codes beyond the data type have saturated before; a step whose word is no word could not be loaded."""
    words = np.clip(np.arange(codes[0], codes[1] + 1) << exponent, FP8.min_code, FP8.max_code)
    for low, high in product(
        (-400, -129, -128, -127, -9, 0, 2, 4, 127), (-200, -128, 0, 5, 9, 15, 16, 126, 127, 128, 400)
    ):
        if low > high:
            continue
        steps = StepSequence(exponent, codes, np.zeros(1, dtype=np.int64), FP8)
        steps.limit(low, high)
        ends = [min(max(end << exponent, FP8.min_code), FP8.max_code) for end in (low, high)]
        assert apply_steps(steps.raw_steps, words, FP8).tolist() == np.clip(words, *ends).tolist()
        for step in steps.raw_steps:
            word = step.word  # type: ignore[union-attr]
            assert FP8.min_code <= word <= FP8.max_code
            assert not np.array_equal(apply_steps([step], np.arange(-128, 128), FP8), np.arange(-128, 128)), "idle"
        kinds = {type(step) for step in steps.raw_steps}
        assert kinds <= ({Maximum} if codes[0] < low else set()) | ({Minimum} if codes[1] > high else set())
        assert steps.codes == (min(max(codes[0], low), high), min(max(codes[1], low), high))
