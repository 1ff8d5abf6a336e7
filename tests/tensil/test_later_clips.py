"""Clips that a requantization counts on: left out only where what follows does the same."""

from __future__ import annotations

import numpy as np
import pytest

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Requantization, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.steps import Accumulate, apply_steps

DATA_TYPE = load_architecture("custom_perf").data_type


@pytest.mark.parametrize("bias", range(-8, 9))
@pytest.mark.parametrize("highest", [3, 15])
def test_a_requantization_keeps_the_clip_that_its_shift_counts_on(bias: int, highest: int) -> None:
    """Codes that can occur are fewer than a quantizer has: the lowest of them is where the shift needs the clip."""
    halves_to_even = [8 * code - 4 + code % 2 for code in range(-7, 8)]
    by_eight = Staircase(-64, 63, -8, np.array([halves_to_even]), np.array([1]))
    relu = Staircase(-16, 30, 0, np.array([range(1, 16)]), np.array([1]))
    one = Layout(1, 1, 1)
    head = LinearHead((Term("x", np.ones((1, 1, 1, 1), np.int64), Window(kernel=(1, 1))),), np.array([bias]))
    steps = Requantization(by_eight, 1), AddTensor("t"), Requantization(relu, 1)
    sum_group = Group("y", one, head, steps, ("a", "b", "c", "d"), Origin("y", "Conv"))
    tensors = {
        "x": StoredTensor("x", one, 0, 15),
        "t": StoredTensor("t", one, -8, highest),
        "y": StoredTensor("y", one, 0, 15),
    }
    placed = place(GroupProgram((), (), (sum_group,), tensors), DATA_TYPE)
    (group,) = placed.groups
    ((term,), accumulated) = group.terms, next(i for i, s in enumerate(group.steps) if isinstance(s, Accumulate))
    x, t = (axis.ravel() for axis in np.meshgrid(np.arange(16), np.arange(-8, highest + 1), indexing="ij"))
    words = (x * term.weight.item() >> DATA_TYPE.binary_point) + group.bias
    sums = apply_steps(list(group.steps[:accumulated]), words[None], DATA_TYPE) + t
    got = apply_steps(list(group.steps[accumulated + 1 :]), sums, DATA_TYPE)
    assert placed.outcomes[0].exact
    assert np.array_equal(got, relu(by_eight((x + bias)[None]) + t))
