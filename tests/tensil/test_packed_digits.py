"""Tensors that are packed before they get digits: the codes stay, and so does the room that is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, simulate
from wide_support import residual

from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites.digit_pairs import tensors_in_pairs
from pefslc.targets.tensil.group_rewrites.leftover_channels import PackLeftovers
from pefslc.targets.tensil.group_rewrites.packed_digits import digit_pair
from pefslc.targets.tensil.group_rewrites.room import has_room, moved_cycles
from pefslc.targets.tensil.groups.group import AddTensor, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.groups.verify import faults_of_groups, holds_first_blocks
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.wide.split_sums import split_sums

BOARD = replace(load_architecture("custom_perf"), array_size=12, local_depth=1024)
SIZE = 12  # 144 vectors a block: digits, their packed channels and a result are more than 7/8 of local memory


@pytest.fixture(scope="module")
def groups() -> GroupProgram:
    return select(split_sums(residual(3, 16, SIZE, blocks=2), BOARD).graph)


@pytest.fixture(scope="module")
def packed(groups: GroupProgram) -> GroupProgram:
    return PackLeftovers().run(groups, Context(BOARD))


def of_packed(program: GroupProgram) -> set[str]:
    """Tensors that are packed before they get digits."""
    return {
        tensor.of
        for tensor in program.tensors.values()
        if tensor.role is Role.PACKED
        and any(isinstance(s, AddTensor) and s.tensor == tensor.name for g in program.groups for s in g.steps)
    }


def test_digits_are_made_of_what_is_packed(groups: GroupProgram, packed: GroupProgram) -> None:
    wholes = of_packed(packed)
    assert len(wholes) == 4
    assert faults_of_groups(packed, BOARD.array_size) == []
    for name in wholes:
        pairs = [digit_pair(groups, a, b) for a, b in tensors_in_pairs(groups).items()]
        (pair, *_) = [p for p in pairs if p is not None and p.whole == name]
        for digit in (pair.high.result, pair.low.result):
            assert packed.layout(digit).channels == 12
            assert packed.layout(f"{digit}.packed") == packed.layout(f"{name}.packed")
            assert packed.tensors[f"{digit}.packed"].codes == packed.tensors[digit].codes


def test_digits_and_what_is_packed_of_them_take_the_room_of_digits(groups: GroupProgram, packed: GroupProgram) -> None:
    assert moved_cycles(packed, BOARD) == moved_cycles(groups, BOARD)
    roomy = replace(BOARD, local_depth=1 << 14)
    (name, *_) = sorted(of_packed(packed))
    assert has_room(packed, f"{name}.packed", roomy)
    assert moved_cycles(packed, roomy) == 0
    # Where tensors must leave local memory, each goes to DRAM0 and comes back.
    tight = replace(BOARD, local_depth=900)
    assert moved_cycles(groups, tight) % (2 * 3 * SIZE * SIZE) == 0
    assert moved_cycles(groups, tight) > 0


def test_a_digit_that_somebody_else_reads_is_not_taken_apart(groups: GroupProgram) -> None:
    """Another sum, which adds the high digit as it is."""
    pairs = tensors_in_pairs(groups)
    found = [p for p in (digit_pair(groups, a, b) for a, b in pairs.items()) if p is not None]
    pair = next(p for p in found if p.whole in of_packed(PackLeftovers().run(groups, Context(BOARD))))
    spoiled = replace(
        groups,
        groups=tuple(
            replace(g, steps=(*g.steps, AddTensor(pair.high.result))) if g is groups.groups[-1] else g
            for g in groups.groups
        ),
    )
    assert pair.whole not in of_packed(PackLeftovers().run(spoiled, Context(BOARD)))


def test_what_are_no_digits_is_no_pair(groups: GroupProgram) -> None:
    (one, other), *_ = tensors_in_pairs(groups).items()
    pair = digit_pair(groups, one, other)
    assert pair is not None
    assert digit_pair(groups, other, one) == pair
    assert digit_pair(groups, one, one) is None
    named = {g.result: g for g in groups.groups}

    def with_low(**changes: object) -> GroupProgram:
        low = replace(named[pair.low.result], **changes)  # type: ignore[arg-type]
        return groups.with_groups([low if g.result == low.result else g for g in groups.groups])

    assert digit_pair(with_low(steps=()), one, other) is None
    assert digit_pair(with_low(steps=(AddTensor(pair.high.result, (-4, 4)),)), one, other) is None
    assert digit_pair(with_low(steps=(AddTensor(pair.whole),)), one, other) is None
    assert isinstance(pair.low.head, LinearHead)
    (term,) = pair.low.head.terms
    head = replace(pair.low.head, terms=(replace(term, weight=-term.weight),))
    assert digit_pair(with_low(head=head), one, other) is None


def test_only_whole_blocks_are_the_first_of_a_tensor() -> None:
    for channels in range(1, 30):
        for first in range(1, 30):
            whole = first == channels or (first < channels and first % 12 == 0)
            assert holds_first_blocks(Layout(channels, 3, 5), Layout(first, 3, 5), 12) is whole
    assert not holds_first_blocks(Layout(24, 3, 5), Layout(12, 5, 3), 12)


@pytest.mark.parametrize("local_depth", [1024, 900, 700])
def test_the_program_computes_what_the_model_says(local_depth: int, tmp_path: Path) -> None:
    """From poisoned memories, two inputs in a row."""
    graph, board = residual(3, 16, SIZE, blocks=2), replace(BOARD, local_depth=local_depth)
    assert of_packed(PackLeftovers().run(select(split_sums(graph, board).graph), Context(board)))
    emission = emit(graph, board, tmp_path)
    assert all(report.exact for report in emission.ops.values())
    x = np.random.default_rng(1).integers(-128, 128, (2, 3, SIZE, SIZE))
    (output,) = graph.outputs
    expected = run_codes(graph, {"x0": x})[output.value.name]
    assert len(np.unique(expected)) > 10
    assert np.array_equal(simulate(graph, emission, tmp_path, {"x0": x})["y0"], expected)
