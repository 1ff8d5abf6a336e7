"""Clips of addends that are left out or done by the addition: the same words as before, for every sum and addend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tensil_support import word_program

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.word_rewrites.addends import DropIdleClips, FoldAddends
from pefslc.targets.tensil.words.steps import Accumulate, Maximum, Minimum, Multiply, RawStep, apply_steps
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm
from pefslc.targets.tensil.words.word_program import WordProgram

FP8 = DataType["FP8BP4"]
HALF = Multiply(8)
CONTEXT = Context(replace(load_architecture("custom_perf"), data_type=FP8))


def group(
    name: str, source: str, steps: tuple[RawStep, ...], words: tuple[int, int], sums: tuple[int, int] | None
) -> WordGroup:
    """A layer of one channel whose accumulators lie in `words`; by the identity."""
    zero = np.zeros(1, dtype=np.int64)
    terms = (WordTerm(source, np.full((1, 1, 1, 1), FP8.one), Window(kernel=(1, 1))),)
    partial = np.array([min(words[0], 0)]), np.array([max(words[1], 0)])
    origin = Origin(name, "Conv")
    return WordGroup(name, Layout(1, 4, 4), SumHead(), terms, zero, steps, words, partial, sums, origin)


def results(placed: WordProgram, words: np.ndarray, addends: np.ndarray) -> np.ndarray:
    """The last group's words, for each of its sums (rows) with each of the addend's (columns)."""
    *before, last = placed.groups
    (index,) = [i for i, step in enumerate(last.steps) if isinstance(step, Accumulate)]
    step = last.steps[index]
    assert isinstance(step, Accumulate)
    added = addends
    for one in before:
        added = apply_steps(list(one.steps), added, FP8)
    if step.ceiling is not None:
        added = np.minimum(added, step.ceiling)
    assert step.low <= added.min() or step.ceiling is not None
    assert added.max() <= step.high
    sums = apply_steps(list(last.steps[:index]), words, FP8)[:, None] + added
    return apply_steps(list(last.steps[index + 1 :]), np.clip(sums, FP8.min_code, FP8.max_code), FP8)


def two(
    leading: tuple[RawStep, ...],
    words: tuple[int, int],
    addend: tuple[RawStep, ...],
    sums: tuple[int, int],
    trailing: tuple[RawStep, ...],
) -> WordProgram:
    """One group, and another that adds it."""
    ends = apply_steps(list(addend), np.array(sums), FP8).tolist()
    mine = apply_steps(list(leading), np.array(words), FP8).tolist()
    bounds = mine[0] + ends[0], mine[1] + ends[1]
    first = group("a", "x", addend, sums, None)
    last = group("b", "x", (*leading, Accumulate("a", *ends), *trailing), words, bounds)
    return word_program([first, last], {"x": Layout(1, 4, 4)}, "b")


@pytest.mark.parametrize("lower", [-9, -4, -1, 0])
@pytest.mark.parametrize("highest", [3, 6, 7, 20])
@pytest.mark.parametrize("floor", [-6, -2, -1, 0, 2, 3, 4, 12])
def test_a_lower_clip_is_left_out_exactly_where_no_sum_feels_it(lower: int, highest: int, floor: int) -> None:
    """The branch clipped at `highest`, the sum at `floor`: one code more, and some sum is lifted by the clip."""
    words, sums = (-40, 60), (-50, 50)
    before = two((HALF, Minimum(highest)), words, (HALF, Maximum(lower), Minimum(9)), sums, (Maximum(floor),))
    after = DropIdleClips().run(before, CONTEXT)
    every, addends = np.arange(words[0], words[1] + 1), np.arange(sums[0], sums[1] + 1)
    wanted = results(before, every, addends)
    assert np.array_equal(results(after, every, addends), wanted)
    bare = replace(before.groups[0], steps=(HALF, Minimum(9)))
    free = replace(
        before,
        groups=(
            bare,
            replace(before.groups[1], steps=(HALF, Minimum(highest), Accumulate("a", -25, 9), Maximum(floor))),
        ),
    )
    idle = np.array_equal(results(free, every, addends), wanted)
    assert (Maximum(lower) not in after.groups[0].steps) == idle


@pytest.mark.parametrize(("lowest", "kept"), [(-65, True), (-64, False)])
def test_a_lower_clip_stays_where_the_sum_would_leave_the_words_without_it(lowest: int, kept: bool) -> None:
    """-64 of the addend, and -64 or one less."""
    before = two((Minimum(1),), (lowest, 4), (HALF, Maximum(-4), Minimum(9)), (-128, 50), (Maximum(0),))
    after = DropIdleClips().run(before, CONTEXT)
    assert (Maximum(-4) in after.groups[0].steps) == kept
    assert after.groups[1].sums is not None
    assert after.groups[1].sums[0] >= FP8.min_code
    every, addends = np.arange(lowest, 5), np.arange(-128, 51)
    assert np.array_equal(results(after, every, addends), results(before, every, addends))


@pytest.mark.parametrize(
    "addend",
    [
        (Maximum(-4), Minimum(9)),  # no shift before the clip
        (HALF, Minimum(9)),  # no lower clip
        (HALF, Maximum(-4), Minimum(-6)),  # the clips cross
        (HALF, Maximum(-4), Maximum(-3)),
        (HALF, Maximum(-4), HALF),  # what follows the clip is no clip
    ],
)
def test_other_addends_are_left_as_they_are(addend: tuple[RawStep, ...]) -> None:
    before = two((HALF, Minimum(3)), (-40, 60), addend, (-50, 50), (Maximum(0),))
    assert DropIdleClips().run(before, CONTEXT).groups[0].steps == addend


@pytest.mark.parametrize("ceiling", [-3, -1, 0, 1, 7])
def test_a_ceiling_below_zero_is_not_left_to_the_addition(ceiling: int) -> None:
    """Lanes without a channel hold 0, which the clip takes to the ceiling and the addition would not."""
    before = two((HALF, Minimum(7)), (-40, 40), (Minimum(ceiling),), (-20, 12), (Maximum(0),))
    after = FoldAddends().run(before, CONTEXT)
    if ceiling < 0:
        assert len(after.groups) == 2
    else:
        assert len(after.groups) == 1
        every, addends = np.arange(-40, 41), np.arange(-20, 13)
        assert np.array_equal(results(after, every, addends), results(before, every, addends))
