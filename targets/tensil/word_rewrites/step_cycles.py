"""About what the steps of a group take: for rewrites that choose between two ways, before anything is scheduled."""

from __future__ import annotations

from pefslc.targets.tensil.group_rewrites.convolution_cost import tile_count
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import simd_in_drain_cycles, vector_beats
from pefslc.targets.tensil.matrix.group_steps import (
    added_tensors,
    addend_plan,
    bare_plan,
    leading_channel_plan,
    leading_plan,
    trailing_plan,
    trailing_steps,
)
from pefslc.targets.tensil.matrix.step_choice import choose, matrix_cycles, simd_cycles
from pefslc.targets.tensil.words.steps import AddOffset
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["step_cycles"]


def step_cycles(group: WordGroup, architecture: Architecture, *, carried: bool) -> int:
    """Cycles of the steps of one group: of two ways to add a tensor, the shorter one.

    carried  whether its sums can carry a plan's constant, where several tiles make them
    """
    a, data_type = architecture.array_size, architecture.data_type
    blocks, pixels = group.layout.blocks(a), group.layout.pixels
    tiles = sum(tile_count(term.weight, a) for term in group.terms)
    carried = carried and tiles > blocks
    whole = addend_plan(group, data_type)
    by_matrix = None
    if whole is not None:
        by_matrix = matrix_cycles(whole.steps if carried else whole.alone, pixels * blocks, a, blocks)
    if any(added.word is not None for added in added_tensors(group)):
        assert by_matrix is not None
        return by_matrix
    if group.carried:
        return pixels * blocks
    hides = [tiles * (simd_in_drain_cycles(a) + a * vector_beats(architecture)) // blocks] * blocks
    trailing = trailing_steps(group)
    leading = len(group.steps) - len(trailing) - len(added_tensors(group))
    by_channel = leading_channel_plan(group, data_type)
    carried = carried and by_channel is None
    apart = choose(by_channel or leading_plan(group, data_type), leading, pixels, hides, a, carried=carried).cycles
    if by_channel is None and any(isinstance(step, AddOffset) for step in group.steps[:leading]):
        apart = min(apart, choose(bare_plan(group, data_type), leading, pixels, hides, a, carried=False).cycles)
    apart += pixels * blocks * len(added_tensors(group))
    after = simd_cycles(len(trailing), pixels * blocks)
    plan = trailing_plan(group, data_type)
    apart += after if plan is None else min(after, matrix_cycles(plan.alone, pixels * blocks, a, blocks))
    return apart if by_matrix is None else min(apart, by_matrix)
