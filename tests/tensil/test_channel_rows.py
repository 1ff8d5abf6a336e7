"""Words for each channel of a group: which groups have rows for them, and where these find room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.groups.group import Stationary
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.matrix.group_steps import leading_channel_plan
from pefslc.targets.tensil.matrix.matrix_steps import ChannelDiagonal
from pefslc.targets.tensil.schedule.channel_rows import ChannelRows
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.pass_plan import Needs, Scratch
from pefslc.targets.tensil.words.steps import ChannelMultiply, Maximum, Minimum, Multiply, RawStep
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm

FP16 = DataType["FP16BP8"]


def group_of(steps: tuple[RawStep, ...], stationary: Stationary | None = None) -> WordGroup:
    """Four channels with sums in [-9, 9]."""
    weight, ends = np.ones((4, 2, 1, 1), dtype=np.int64), np.full(4, 9)
    terms = (WordTerm("x", weight, Window(kernel=(1, 1))),)
    head, none = SumHead(stationary), np.zeros(4, dtype=np.int64)
    layout, origin = Layout(4, 2, 2), Origin("y", "Conv")
    return WordGroup("y", layout, head, terms, none, steps, (-9, 9), (-ends, ends), None, origin)


PER_CHANNEL = ChannelMultiply((384, 300, 500, 400)), Maximum(0), Minimum(7)


def test_steps_per_channel_have_a_plan_whatever_clips_follow() -> None:
    plan = leading_channel_plan(group_of(PER_CHANNEL), FP16)
    assert plan is not None
    assert isinstance(plan.steps[0], ChannelDiagonal)
    assert leading_channel_plan(group_of(PER_CHANNEL[:1]), FP16) is not None


@pytest.mark.parametrize(
    "group",
    [
        group_of((Multiply(128), Maximum(0))),  # `matrix_plan` has rows that all channels share
        group_of(()),
        group_of(PER_CHANNEL, Stationary(((0,),), None)),  # a row is a channel: it has no lane of its own
    ],
)
def test_groups_without_words_for_each_lane_have_no_plan_per_channel(group: WordGroup) -> None:
    assert leading_channel_plan(group, FP16) is None


def test_rows_take_a_quarter_of_the_scratch_at_most_and_leave_a_pass_its_room() -> None:
    """Unless constants are resident: then they take nothing."""
    machine, group = replace(load_architecture("pynqz1"), array_size=3), group_of(PER_CHANNEL)

    def rows(size: int, comfort: int = 0, *, resident: bool = False) -> ChannelRows | None:
        needs = Needs({}, (), staging=True, weight_rows=0, tile_rows=4, comfort=comfort)
        constants = Constants(resident=resident)
        of_group = ChannelRows.of(group, machine, constants, Scratch(5, size), needs)
        assert constants.size, "they are stored whether or not they are taken"
        return of_group

    taken = rows(10_000)
    assert taken is not None
    vectors = taken.vectors
    for size, comfort, fits in (
        (4 * vectors, 0, True),
        (4 * vectors - 1, 0, False),
        (4 * vectors, 3 * vectors - 5, True),
        (4 * vectors, 3 * vectors - 4, False),
    ):
        assert (rows(size, comfort) is not None) == fits
        assert rows(size, comfort, resident=True) is not None


# --- in networks ------------------------------------------------------------------------------------------------------


def per_channel(folder: Path) -> Graph:
    """A convolution whose channels have scales of their own, in three blocks of four."""
    r, m, n = np.random.default_rng(1), ModelBuilder(), 11
    x = m.quant(m.input([1, 4, 5, 5]), 0.25, 4)
    y = m.node("Conv", x, m.weight(r.integers(-7, 8, (n, 4, 1, 1)) / 8, 0.125, 4))
    y = m.node("Mul", y, m.constant(r.uniform(0.2, 0.9, (1, n, 1, 1))))
    m.output(m.quant(y, 0.3, 4))
    return lower(import_bytes(m, folder))


def test_each_block_has_a_diagonal_of_its_own(tmp_path: Path) -> None:
    graph, machine = per_channel(tmp_path), replace(load_architecture("pynqz1"), array_size=4)
    emission = emit(graph, machine, tmp_path)
    inputs = random_codes(graph, 0)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(emission.computed or graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


def test_two_accumulators_beside_the_constants_are_enough(tmp_path: Path) -> None:
    """And the message says how many that are."""
    graph = per_channel(tmp_path)
    machine = replace(load_architecture("pynqz1"), array_size=4, accumulator_depth=8)
    with pytest.raises(CompileError, match="requantization per channel and two") as error:
        emit(graph, machine, tmp_path)
    need = int(str(error.value).split("lanes of work need ")[1].split()[0].rstrip(".;,"))
    with pytest.raises(CompileError, match=f"have {need - 1} vectors.* need {need}"):
        emit(graph, replace(machine, accumulator_depth=need - 1), tmp_path)
    emission = emit(graph, replace(machine, accumulator_depth=need), tmp_path)
    inputs = random_codes(graph, 0)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(emission.computed or graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
