"""What makes sums of several words cheap: parts that fit exactly, what saturates kept, digits beside each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensil_support import emit, simulate
from wide_support import extremes, same, shift

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites.digit_pairs import sums_in_pairs, tensors_in_pairs
from pefslc.targets.tensil.group_rewrites.input_packing import PackInputs
from pefslc.targets.tensil.group_rewrites.leftover_channels import FactorLeftovers, PackLeftovers
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, load_architecture
from pefslc.targets.tensil.matrix.group_steps import addend_plan
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.in_place import is_high_digit, overwritten
from pefslc.targets.tensil.schedule.tensor_memory import TensorMemory
from pefslc.targets.tensil.wide.active_range import ActiveRange
from pefslc.targets.tensil.wide.fan_in import FanIn
from pefslc.targets.tensil.wide.plans import PartsPlan, plans_of
from pefslc.targets.tensil.wide.split_sums import split_sums
from pefslc.targets.tensil.word_rewrites.additions import MergeAdditions
from pefslc.targets.tensil.word_rewrites.both_digits import SumBothDigits
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.word_program import WordProgram

Array = np.ndarray
BOARD = load_architecture("custom_perf")
LEAST, MOST = -8, 7  # a word of four bits


def clip(word: int) -> int:
    return max(LEAST, min(MOST, word))


def test_a_sum_of_three_words_that_keeps_what_saturates_is_the_saturated_sum() -> None:
    """Every sum of three words of four bits, but for the lowest two; each step is a word, or saturates to one."""
    for x, y, z in product(range(LEAST + 1, MOST + 1), repeat=3):
        s = clip(x + y)
        taken = s - x
        over = y - taken
        assert -MOST <= taken <= MOST
        assert over == x + y - s
        assert clip(s + clip(z + over)) == clip(x + y + z)


def layer(weight: Array, low: int, high: int) -> Conv2d:
    b = GraphBuilder("parts")
    x = b.input((1, *weight.shape[1:]), max(high.bit_length(), 1) + (low < 0), signed=low < 0)
    (conv,) = b.graph(b.conv(x, weight)).of_type(Conv2d)
    return conv


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 32))
def test_parts_take_every_product_once_and_fit_their_rooms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs, channels, kernel = int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    weight = rng.integers(-9, 10, (outputs, channels, kernel, kernel))
    high = int(rng.integers(1, 4))
    low = -high - 1 if rng.random() < 0.3 else 0
    bias = rng.integers(-5, 6, outputs)
    rooms = [(rng.integers(-120, -3, outputs), rng.integers(3, 120, outputs)) for _ in range(int(rng.integers(1, 4)))]
    conv = layer(weight, low, 2 * high if low else (1 << high.bit_length()) - 1)
    fan_in = FanIn.of(conv, 2, None)
    found = fan_in.parts_within(low, high, bias, rooms)
    flat = weight.reshape(outputs, -1)
    if found is None:
        return
    assert (np.sum([part.chosen for part in found], axis=0) == 1).all()
    for part, (least, most) in zip(found, rooms, strict=True):
        taken = np.where(part.chosen, flat, 0)
        ends = np.stack([taken * low, taken * high])
        below, above = ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)
        assert np.array_equal(part.low, below + part.bias)
        assert np.array_equal(part.high, above + part.bias)
        assert (below + np.minimum(part.bias, 0) >= least).all()
        assert (above + np.maximum(part.bias, 0) <= most).all()


def test_parts_are_found_where_their_order_alone_does_not_do() -> None:
    """In order 7 + 4, 6 + 5, 3: three parts of at most 13; but 7 + 6 and 5 + 4 + 3 are two."""
    weight = np.array([7, 4, 6, 5, 3]).reshape(1, 5, 1, 1)
    fan_in, none = FanIn.of(layer(weight, 0, 1), 1, None), np.zeros(1, dtype=np.int64)
    assert len(fan_in.parts(0, 1, none, -13, 13) or []) == 3
    room = np.array([-13]), np.array([13])
    parts = fan_in.parts_within(0, 1, none, [room, room])
    assert parts is not None
    assert sorted(int(part.high[0]) for part in parts) == [12, 13]
    assert fan_in.parts_within(0, 1, none, [room, (np.array([-11]), np.array([11]))]) is None


def of_parts(top: int, bottom: int, weight: Array) -> list[PartsPlan]:
    ends, none = (np.array([bottom]), np.array([top])), np.zeros(1, dtype=np.int64)
    fan_in = FanIn.of(layer(weight, 0, 255), 1, None)
    found = plans_of(fan_in, 0, 255, none, ActiveRange(*ends), 0, DataType.FP16BP8)
    return [plan for plan in found if isinstance(plan, PartsPlan)]


def test_how_parts_are_added_is_certified_and_refused_where_they_bring_a_sum_back() -> None:
    up_and_down = np.array([120, -120, 120, -120]).reshape(1, 4, 1, 1)  # 61,200 on either side: two words
    (plan,) = of_parts(32767, -32768, up_and_down)
    assert (len(plan.parts), plan.keeps) == (2, False)
    more = np.array([120, -120, 120, -120, 60, -60]).reshape(1, 6, 1, 1)  # 76,500: and 15,300
    (plan,) = of_parts(32767 - 15300, -32768 + 15300, more)
    assert (len(plan.parts), plan.keeps) == (3, False)
    (plan,) = of_parts(32767 - 15299, -32768 + 15300, more)  # which would bring it back by one
    assert (len(plan.parts), plan.keeps) == (3, True)
    four = np.array([120, -120] * 3 + [60, -60]).reshape(1, 8, 1, 1)
    (plan,) = of_parts(32767 - 15300, -32768 + 15300, four)
    assert (len(plan.parts), plan.keeps) == (4, True)
    assert of_parts(32767 - 15299, -32768 + 15300, four) == []


def test_a_part_that_is_the_lowest_word_has_no_negative_and_is_not_kept() -> None:
    ends, none = (np.array([-10]), np.array([10])), np.zeros(1, dtype=np.int64)
    for lowest, count in ((-32767, 1), (-32768, 0)):
        fan_in = FanIn.of(layer(np.array([lowest, 32767] * 3).reshape(1, 6, 1, 1), 0, 1), 1, None)
        found = plans_of(fan_in, 0, 1, none, ActiveRange(*ends), 0, DataType.FP16BP8)
        assert [plan.keeps for plan in found if isinstance(plan, PartsPlan)] == [True] * count


def many_parts(seed: int, data_type: DataType) -> tuple[Graph, Conv2d]:
    """A layer whose sums are two to three words wide, and a narrow staircase."""
    rng = np.random.default_rng(seed)
    point, width = data_type.binary_point, data_type.width_bits
    b = GraphBuilder(f"parts{seed}")
    channels, kernel, outputs = int(rng.integers(2, 7)), 3, int(rng.integers(1, 4))
    x = b.input((1, channels, kernel, kernel), width // 2 - 1, signed=False)
    top = (1 << width - 1 - point) - 1
    share = rng.uniform(1.3, 3.2) * (1 << width) / (channels * 9 * x.type.codes.high)
    weight = np.clip(np.rint(rng.normal(0, share * 1.2, (outputs, channels, kernel, kernel))), -top, top)
    s = b.conv(x, weight.astype(np.int64), rng.integers(-4, 5, outputs))
    graph = b.graph(b.steps(s, shift(s, int(rng.integers(1, 3)), 0, int(rng.integers(3, 20)))))
    (conv,) = graph.of_type(Conv2d)
    return graph, conv


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([DataType.FP8BP4, DataType.FP16BP8]))
def test_a_sum_of_parts_means_what_the_wide_sum_means(seed: int, data_type: DataType) -> None:
    graph, conv = many_parts(seed, data_type)
    wide = split_sums(graph, replace(BOARD, data_type=data_type, array_size=2))
    assert same(graph, wide, extremes(graph, conv, seed))


@pytest.mark.parametrize("seed", range(6))
def test_the_program_of_a_sum_of_parts_computes_what_the_model_says(seed: int, tmp_path: Path) -> None:
    graph, conv = many_parts(seed, DataType.FP8BP4)
    architecture = replace(BOARD, data_type=DataType.FP8BP4, array_size=2 + seed % 2, local_depth=256)
    emission = emit(graph, architecture, tmp_path)
    x = {"x0": extremes(graph, conv, seed)[:40]}
    (output,) = graph.outputs
    meant = run_codes(graph if emission.computed is None else emission.computed, x)[output.value.name]
    assert np.array_equal(simulate(graph, emission, tmp_path, x)["y0"], meant)


def test_the_layers_above_take_every_way_of_adding_parts() -> None:
    board = replace(BOARD, data_type=DataType.FP8BP4, array_size=2)
    plans = [p for seed in range(16) for p in split_sums(many_parts(seed, DataType.FP8BP4)[0], board).plans.values()]
    ways = {(len(plan.parts), plan.keeps) for plan in plans if isinstance(plan, PartsPlan)}
    assert ways >= {(2, False), (3, False), (3, True)}


# --- networks --------------------------------------------------------------------------------------------------------


def residual(seed: int, channels: int, size: int, blocks: int = 1) -> Graph:
    """Eight-bit codes and weights: an image of three channels, a layer, and residual blocks of two layers each."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"residual{seed}")

    def conv(x, relu: bool):  # type: ignore[no-untyped-def]
        fan_in = x.type.channels * 9
        top = max(int((1 << 18) / fan_in / 128), 2)
        weight = rng.integers(-top, top + 1, (channels, x.type.channels, 3, 3))
        s = b.conv(x, weight, rng.integers(-99, 99, channels), pads=(1, 1, 1, 1))
        low = 0 if relu else -128
        return b.steps(s, shift(s, 7, low, low + 255))

    x = conv(b.input((1, 3, size, size), 8), relu=True)
    for _ in range(blocks):
        clamped = b.clamp(x, 0, 127)
        total = b.sum(conv(conv(x, relu=True), relu=False), clamped)
        x = b.steps(total, shift(total, 0, 0, 255))
    return b.graph(x)


@pytest.mark.parametrize(
    ("channels", "size", "changes"),
    [
        (5, 6, {"array_size": 4, "local_depth": 8192}),
        (5, 6, {"array_size": 4, "local_depth": 512}),
        (5, 6, {"array_size": 4, "local_depth": 300}),
        (16, 5, {"local_depth": 2048}),
        (16, 5, {"local_depth": 450, "accumulator_depth": 64}),
        (7, 7, {"array_size": 16, "local_depth": 4096}),
    ],
)
def test_a_residual_network_of_eight_bits_is_exact_in_any_memory(
    channels: int, size: int, changes: dict[str, int], tmp_path: Path
) -> None:
    """From poisoned memories, several inputs in a row; the same program twice."""
    graph, architecture = residual(channels, channels, size), replace(BOARD, **changes)
    emission = emit(graph, architecture, tmp_path)
    assert all(report.exact for report in emission.ops.values())
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (4, 3, size, size))
    x[1], x[2] = rng.choice([-128, 127], x.shape[1:]), 127
    (output,) = graph.outputs
    expected = run_codes(graph, {"x0": x})[output.value.name]
    assert len(np.unique(expected)) > 10
    assert np.array_equal(simulate(graph, emission, tmp_path, {"x0": x})["y0"], expected)
    assert emit(graph, architecture, tmp_path).files == emission.files


def words(graph: Graph, board: Architecture = BOARD) -> WordProgram:
    program = place(select(split_sums(graph, board).graph), board.data_type)
    return MergeAdditions().run(SumBothDigits().run(program, Context(board)), Context(board))


def test_a_residual_is_added_by_matrix_behind_high_sums_and_clipped_as_it_is_added() -> None:
    program = words(residual(5, 5, 6))
    adding = [g for g in program.groups if g.add_high is not None and overwritten(g, BOARD.data_type)]
    assert len(adding) == 1
    assert addend_plan(adding[0], BOARD.data_type) is not None
    (added,) = (s for s in adding[0].steps[1:] if hasattr(s, "tensor"))
    assert added.ceiling == 127  # the clamp of the addend is no group of its own


def test_digits_and_residuals_are_written_where_what_they_are_made_of_lay(monkeypatch: pytest.MonkeyPatch) -> None:
    from pefslc.targets.tensil.schedule.schedule import schedule

    lent: list[str] = []
    settle = TensorMemory.settle

    def settled(self, group, *arguments, **named):  # type: ignore[no-untyped-def]
        needs = settle(self, group, *arguments, **named)
        lent.extend(name for (name, _), tensor in self.tensors.items() if tensor.lent and name not in lent)
        return needs

    monkeypatch.setattr(TensorMemory, "settle", settled)
    program = words(residual(5, 5, 6))
    high = [g.terms[0].tensor for g in program.groups if is_high_digit(g, BOARD.data_type)]
    assert len(high) == 3
    schedule(program, BOARD)
    # The image's; the residual, of which there are digits first, where it is added; and the tensor between.
    assert len(lent) == 3


def test_only_what_nobody_else_reads_is_overwritten() -> None:
    program = words(residual(5, 5, 6))
    names = [overwritten(group, BOARD.data_type) for group in program.groups]
    adding = next(g for g, name in zip(program.groups, names, strict=True) if name and g.add_high is not None)
    own = adding.terms[0].tensor
    step = next(s for s in adding.steps if getattr(s, "tensor", None) == overwritten(adding, BOARD.data_type))
    reading = replace(adding, steps=tuple(replace(s, tensor=own) if s is step else s for s in adding.steps))
    assert overwritten(reading, BOARD.data_type) is None  # a window of it is read, too


def test_both_digits_are_factored_and_packed_together_or_not_at_all() -> None:
    board = replace(BOARD, array_size=12)
    groups = select(split_sums(residual(3, 16, 12, blocks=2), board).graph)
    pairs = sums_in_pairs(groups)
    assert len(pairs) == 10
    program = FactorLeftovers().run(groups, Context(board))
    assert program is not groups
    for partner in tensors_in_pairs(PackLeftovers().run(program, Context(board))).items():
        assert partner[0] != partner[1]
    after = PackLeftovers().run(program, Context(board))
    terms = {g.result: g.head.terms for g in after.groups if g.result in pairs}  # type: ignore[union-attr]
    assert any(len(found) > 1 for found in terms.values())
    for one, other in pairs.items():
        assert len(terms[one]) == len(terms[other])
        for a, b in zip(terms[one], terms[other], strict=True):
            assert a.window == b.window
            assert np.array_equal(a.weight, b.weight)


def test_an_image_is_packed_by_the_host_where_its_digits_are_read() -> None:
    board = replace(BOARD, array_size=32)
    groups = select(split_sums(residual(3, 16, 8), board).graph)
    program = PackInputs().run(groups, Context(board))
    (port,) = program.inputs
    assert program.layout(port.tensor).channels == 27
    read = [t.tensor for g in program.groups for t in g.head.terms if t.window.taps == 1]  # type: ignore[union-attr]
    assert {program.layout(name).channels for name in read} >= {27}


def test_a_tensor_that_is_read_as_it_is_keeps_its_image_as_it_is() -> None:
    """An image that a sum reads beside its digits lies as it always did."""
    b = GraphBuilder("both")
    x = b.input((1, 3, 6, 6), 8)
    s = b.conv(x, np.random.default_rng(1).integers(-90, 91, (3, 3, 3, 3)), pads=(1, 1, 1, 1))
    total = b.sum(b.steps(s, shift(s, 7, -128, 127)), x)
    groups = select(split_sums(b.graph(b.steps(total, shift(total, 1, -128, 127))), BOARD).graph)
    assert PackInputs().run(groups, Context(BOARD)) is groups


def test_constants_that_are_shared_lie_once() -> None:
    rows = [np.full((2, 3), n, dtype=np.int64) for n in (1, 2, 1)]
    apart, shared = Constants(resident=False), Constants(resident=False, once=True)
    assert [apart.store(r) for r in rows] == [0, 2, 4]
    assert [shared.store(r) for r in rows] == [0, 2, 0]
    assert np.array_equal(shared.rows(), np.concatenate(rows[:2]))
