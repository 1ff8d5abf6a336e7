"""What a program is planned as: the text of the plan, where its tensors lie, what is said of each operation."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph, OutputMap
from pefslc.ir.value import Value
from pefslc.numeric.staircase import Staircase
from pefslc.targets.c import proportion
from pefslc.targets.c.arena import Arena, plan_arena
from pefslc.targets.c.naming import Names
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.plan_text import plan_text
from pefslc.targets.c.steps import CopyStep, DotStep, Program
from pefslc.targets.c.storage import Place
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import Emission, TargetOptions


def planned(graph: Graph) -> tuple[Program, Arena]:
    program = plan_program(graph)
    return program, plan_arena(program)


def lowered(graph: Graph) -> Emission:
    return CTarget().lower(graph, TargetOptions())


def convolved(b: GraphBuilder, x: Value, outputs: int, kernel: int = 1, **fields: object) -> Value:
    weight = np.ones((outputs, x.type.shape[1], kernel, kernel), dtype=np.int64)
    return b.clamp(b.conv(x, weight, **fields), 0, 100)  # type: ignore[arg-type]


def test_the_text_of_a_plan_says_what_each_step_does() -> None:
    b = GraphBuilder("text")
    x = b.pool(b.input((1, 2, 4, 4)), True, kernel=(1, 1))
    assert plan_text(*planned(b.graph(convolved(b, x, 1, kernel=3)))).splitlines() == [
        "0: t1: s8[1,2,4,4] channels last = copy of input0: s8[1,2,4,4] rows (input)",
        "1: t2: s8[1,2,4,4] channels last = maximum in 32 bits of t1: s8[1,2,4,4] channels last",
        "   does max_pool %v2",
        "   scratch s1",
        "2: output0: u8[1,1,2,2] channels last (output) = dot products, s8 x s8 (s16 on x86 without VNNI), "
        "sums in 32 bits of t2: s8[1,2,4,4] channels last",
        "   then clamp",
        "   does conv2d %v3, clamp %v4",
        "   scratch s2a, s2p",
        "s2p: bytes 0 to 128, in steps 2 to 2",
        "t1: bytes 0 to 32, in steps 0 to 1",
        "t2: bytes 128 to 160, in steps 1 to 2",
        "s2a: bytes 192 to 224, in steps 2 to 2",
        "s1: bytes 64 to 72, in steps 1 to 1",
    ]


# --- working memory --------------------------------------------------------------------------------------------------


def test_tensors_that_grow_take_no_more_memory_than_the_two_largest() -> None:
    """The largest are placed first: a small one before them would keep them from its place, once it is read."""
    b = GraphBuilder("growing")
    x = b.input((1, 4, 4, 4))
    for channels in (4, 8, 16, 32, 1):
        x = convolved(b, x, channels)
    program, arena = planned(b.graph(x))
    assert max(map(arena.bytes_in_use, range(len(program.steps)))) == arena.bytes


def test_every_buffer_begins_at_a_cache_line(random_graphs) -> None:  # type: ignore[no-untyped-def]
    offsets = [slot.offset for seed in range(20) for slot in planned(random_graphs(seed))[1].slots.values()]
    assert any(offsets)
    assert all(offset % 64 == 0 for offset in offsets)


def test_an_output_that_lies_the_same_in_both_layouts_is_made_where_it_is_handed_out() -> None:
    """By itself, or as another shape of it."""
    b = GraphBuilder("outputs")
    y = convolved(b, b.input((1, 1, 4, 4)), 1)
    flat = b.reshape(convolved(b, b.input((1, 1, 4, 4)), 1), (1, 16))
    dense = b.dense(b.input((1, 3)), np.ones((2, 3), dtype=np.int64))
    program, _ = planned(b.graph(y, flat, dense))
    assert all(tensor.buffer.place is Place.OUTPUT for tensor in program.outputs)
    assert not any(isinstance(step, CopyStep) for step in program.steps)


# --- what is said ----------------------------------------------------------------------------------------------------


def test_reports_count_channels_and_phases_where_there_are_several() -> None:
    b = GraphBuilder("reports")
    x = b.input((1, 2, 3, 3), 2)
    tables = [np.array([[3, 1, 2, 0]]), np.array([[3, 1, 2, 0], [0, 9, 9, 1]])]
    ones = np.ones((2, 2, 2, 2), dtype=np.int64)
    looked_up = [b.lookup(x, table) for table in tables]
    b.graph(*looked_up, b.conv(x, ones), b.conv(x, ones, pads=(1,) * 4, input_dilations=(2, 2)))
    found = lowered(b.graph(*looked_up, *(op.result for op in b.ops[2:]))).ops
    assert [found[op.result.name].implementation for op in b.ops] == [
        "table of 4 codes",
        "table of 4 codes for each of 2 channels",
        "dot products, s8 x s8 (s16 on x86 without VNNI), sums in 32 bits",
        "dot products, s8 x s8 (s16 on x86 without VNNI), sums in 32 bits, 4 phases",
    ]


def test_a_convolution_of_one_channel_is_depthwise() -> None:
    """Its weights are not filled up to rows of a vector: they are there for each pixel of a line of three."""
    b = GraphBuilder("one")
    y = b.conv(b.input((1, 1, 5, 5)), np.ones((1, 1, 3, 3), dtype=np.int64))
    emission = lowered(b.graph(y))
    assert str(emission.ops[y.name].implementation).startswith("depthwise")
    assert emission.details["constant_bytes"] == 3 * 9


def test_a_staircase_is_judged_on_the_codes_that_reach_it() -> None:
    """Beyond them it steps as no line does."""
    b = GraphBuilder("restricted")
    x = b.clamp(b.input((1, 1), 16), 0, 9_999)
    steps = np.array([[*range(0, 10_000, 100), 10_001, 10_002, 19_000]])
    y = b.steps(x, Staircase(-40_000, 40_000, 0, steps, np.array([1])))
    report = lowered(b.graph(y)).ops[y.name].implementation
    assert "shift" in report
    assert "table" not in report


def test_constants_out_of_proportion_are_told_with_the_layer_and_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 bytes of weights, and a table of 4 channels that no line takes."""
    b = GraphBuilder("large")
    sums = b.dense(b.input((1, 8), signed=False), np.full((4, 8), 100))
    low, high = sums.type.codes.low, sums.type.codes.high
    steps = np.sort(np.random.default_rng(0).integers(low, high, (4, 300)), axis=1)
    graph = b.graph(b.steps(sums, Staircase(low, high, 0, steps, np.ones(4, dtype=np.int64))))
    constants = lowered(graph).details["constant_bytes"]
    assert constants == 32 + 4 * 300 * 4

    def told(allowance: int) -> str:
        monkeypatch.setattr(proportion, "_FOR_A_FUNCTION", allowance)
        return next(note for note in lowered(graph).notes if "constants" in note)

    assert told(constants - 64) == "4,832 bytes of constants, up to 4,864 on x86"
    text = told(constants - 65)
    assert text.startswith("4,832 bytes of constants, up to 4,864 on x86, 151 times the weights: 4,800 of them in ")
    assert text.endswith("table of 300 thresholds for each of 4 channels; each output bit less halves them")


def test_many_weights_are_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proportion, "_FOR_A_FUNCTION", 0)
    b = GraphBuilder("weights")
    notes = lowered(b.graph(b.dense(b.input((1, 8), signed=False), np.ones((4, 8), dtype=np.int64)))).notes
    assert "32 bytes of constants, up to 64 on x86" in notes


def test_parameters_keep_their_names_unless_c_or_the_source_has_them() -> None:
    names = Names("net")
    asked = ["x", "X", "x", "int", "INT", "arena", "step0", "stepwise", "memcpy"]
    found = ["x", "x_2", "x_3", "int_", "input_int", "input_arena", "input_step0", "stepwise", "input_memcpy"]
    assert [names.unique(name, "input") for name in asked] == found


def test_many_long_scales_are_shown_by_the_first_four() -> None:
    b = GraphBuilder("scales")
    graph = b.graph(b.input((1, 200)))
    scales = tuple(Fraction(i, 3**20) for i in range(1, 201))
    (output,) = graph.outputs
    per_channel = replace(output, map=OutputMap(scales, (Fraction(0),) * 200))
    header = lowered(replace(graph, outputs=(per_channel,))).files["scales.h"].decode()
    shown = " ".join(header.replace("*", " ").split())
    assert f"per channel [{', '.join(repr(float(s)) for s in scales[:4])}... (all, exact, in the sidecar" in shown


def test_pixels_of_few_taps_are_filled_up_to_a_vector_and_a_dense_layer_is_not() -> None:
    b = GraphBuilder("few")
    x, row = b.input((1, 8, 3, 3), signed=False), b.input((1, 8), signed=False)
    pixels = b.conv(x, np.ones((4, 8, 1, 1), dtype=np.int64))
    program = plan_program(b.graph(pixels, b.dense(row, np.ones((4, 8), dtype=np.int64))))
    taps = [step.parts[0].view.taps for step in program.steps if isinstance(step, DotStep)]
    assert taps == [16, 8]
