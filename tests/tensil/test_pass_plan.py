"""How large a pass is: as accumulators and scratch allow."""

from __future__ import annotations

import numpy as np
import pytest

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.groups.layout import Layout, Rect
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.maxima import held_vectors
from pefslc.targets.tensil.schedule.pass_plan import Needs, Scratch, plan_passes
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordHead


def group_of(layout: Layout, head: WordHead) -> WordGroup:
    none = np.zeros(layout.channels, dtype=np.int64)
    return WordGroup("y", layout, head, (), none, (), (0, 0), (none, none), None, Origin("y", "Op"))


def staged(weight_rows: int) -> Needs:
    """A result that goes to DRAM0: scratch holds it, beside the weights."""
    return Needs({}, (), staging=True, weight_rows=weight_rows, tile_rows=13, comfort=0)


@pytest.mark.parametrize(
    ("weight_rows", "rows"),
    [
        (13, 48),  # 400 - 13 vectors hold the whole image of 48 x 8
        (40, 24),  # 400 - 40 do not: half of it
        (100, 24),
        (5000, 24),  # nor more than a quarter of the scratch, however many there are
    ],
)
def test_weights_have_a_quarter_of_the_scratch_at_most(custom_perf: Architecture, weight_rows: int, rows: int) -> None:
    layout = Layout(1, 48, 8)
    scratch = Scratch(7, 400)
    plan = plan_passes(group_of(layout, SumHead()), {}, staged(weight_rows), scratch, 2000, custom_perf)
    assert (plan.rows, plan.columns) == (rows, 8)
    assert plan.weight_base == 7 + rows * 8
    assert plan.weight_base + plan.weight_size == 407


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 1)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("capacity", [2, 8, 40, 64, 100, 500])
def test_a_maximum_takes_the_most_rows_whose_input_the_accumulators_hold_too(
    custom_perf: Architecture, size: tuple[int, int], stride: int, capacity: int
) -> None:
    """Else parts of a row; and where they hold no pixel and its input, some taps at a time meet those before."""
    window, source = Window(kernel=size, strides=(stride, stride)), Layout(1, 14, 11)
    height, width = window.output_size(source.height, source.width)
    layout = Layout(1, height, width)
    plan = plan_passes(
        group_of(layout, MaxHead("x", window)), {"x": source}, staged(0), Scratch(0, 5000), capacity, custom_perf
    )

    def fits(rows: int, columns: int) -> bool:
        rect = Rect(0, rows, 0, columns)
        return rect.area + held_vectors(window, rect, rect.under(window, source).area) <= capacity

    whole = [n for n in range(1, height + 1) if fits(n, width)]
    part = [n for n in range(1, width) if fits(1, n)]
    if whole:
        assert (plan.rows, plan.columns) == (max(whole), width)
    elif part:
        assert (plan.rows, plan.columns) == (1, max(part))
    else:
        assert plan.rows == 1
        assert plan.columns <= capacity // 2
