"""Tensors that are stored with an offset: where the way back from the rail (`matrix.matrix_plan`) is a step too many.

    have  b = steps(conv(y)), whose last matrix step adds a constant c; d = conv(b)
    want  b' = b - c, a step less;                                      d = conv(b' + c): each tile's bias adds c's part

A sum that is clipped at both ends stands at value - hi - 1 then, one with a tensor that is clipped at 0 at value - 1.
Each tile of a reader has a bias row more: so taps outside of an image still add nothing. A reader that adds the tensor
has the constant in the bias of its MatMul.

Done where that takes fewer cycles, the sums on the way still fit in words, and certified plans exist for what adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import taps_together
from pefslc.numeric.accumulate import dot_bounds, prefix_bounds
from pefslc.targets.tensil.group_rewrites.convolution_cost import tile_count
from pefslc.targets.tensil.groups.group_program import Role
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.machine.timing import vector_beats
from pefslc.targets.tensil.matrix.group_steps import added_tensors, addend_plan, bare_plan, leading_channel_plan
from pefslc.targets.tensil.matrix.matrix_steps import AddWord
from pefslc.targets.tensil.matrix.resident_rows import resident_rows
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.word_rewrites.step_cycles import step_cycles
from pefslc.targets.tensil.words.steps import Accumulate, AddOffset, Maximum, Minimum
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["StoreWithOffsets"]

Words = NDArray[np.int64]
_LARGEST = 1 << 10  # offsets beyond would only make sums leave their words


class StoreWithOffsets:
    """Results whose last matrix step only adds a constant are stored without it."""

    name: ClassVar[str] = "store-with-offsets"
    needs: ClassVar[str] = "merge-additions has run: what each group does is settled"
    ensures: ClassVar[str] = "whatever reads a tensor knows its offset, and the rows of every step are resident"

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        if program.native is not None or context.allow_overflow:
            LOG.debug("%s: sums may round or overflow", self.name)
            return program
        result = program
        for name in [group.result for group in program.groups]:
            changed = _stored_with_an_offset(result, name, context.architecture)
            if isinstance(changed, str):
                LOG.debug("%s: %s has none: %s", self.name, name, changed)
            else:
                result = changed
        if result is not program and not resident_rows(result.groups, context.architecture):
            LOG.debug("%s: the rows of matrix steps are too many for local memory", self.name)
            return program
        return result


def _stored_with_an_offset(program: WordProgram, name: str, architecture: Architecture) -> WordProgram | str:
    """The program where one tensor has an offset, or why it has none."""
    tensor = program.tensors[name]
    (group,) = (group for group in program.groups if group.result == name)
    has_values = tensor.stored.role in (Role.VALUE, Role.LEFTOVERS)
    if name in program.output_tensors or tensor.finer != 1 or not has_values:
        return "it is an output, or no value of the network"
    changed: WordProgram | str = "its steps end in no small constant"
    for offset in _offsets_before_the_last_step(group, architecture.data_type):
        changed = _stored_with(offset, program, group, architecture)
        if not isinstance(changed, str):
            break
    return changed


def _stored_with(offset: int, program: WordProgram, group: WordGroup, architecture: Architecture) -> WordProgram | str:
    """The program where the result of one group has this offset, or why it cannot have it."""
    data_type, name = architecture.data_type, group.result
    renewed = {name: replace(group, steps=(*group.steps, AddOffset(offset)))}
    for reader in program.groups:
        if name in reader.tensors:
            reading = _reading(reader, name, offset, program, data_type.one)
            if isinstance(reading, str):
                return f"{reader.result} {reading}"
            renewed[reader.result] = reading
    for changed in renewed.values():
        must = any(added.ceiling is not None or added.carried for added in added_tensors(changed))
        if must and addend_plan(changed, data_type) is None:
            return f"the addition of {changed.result} has no certified plan"
        if not _fits(changed, data_type):
            return f"sums of {changed.result} may leave a word"
    saved = 0
    for before in program.groups:
        if (after := renewed.get(before.result)) is not None:
            saved += step_cycles(before, architecture, carried=True) - step_cycles(after, architecture, carried=True)
            saved -= sum(_reading_cycles(t, before, program, architecture) for t in before.terms if t.tensor == name)
    if saved <= 0:
        return f"that takes {-saved} cycles more"
    groups = (renewed.get(group.result, group) for group in program.groups)
    return program.with_groups(groups, [replace(program.tensors[name], offset=offset)])


def _offsets_before_the_last_step(group: WordGroup, data_type: DataType) -> Iterator[int]:
    """What the values may stand with before the last step of a plan, where that adds a constant."""
    if not isinstance(group.head, SumHead) or group.stationary is not None or group.add_high is not None:
        return
    lower, upper = ([s.word for s in group.steps[-2:] if isinstance(s, clip)] for clip in (Maximum, Minimum))
    if leading_channel_plan(group, data_type) is not None:
        found = [-upper[0] - 1] if upper else []
    else:
        plan = addend_plan(group, data_type) if added_tensors(group) else bare_plan(group, data_type)
        last = None if plan is None else plan.steps[-1]
        found = [-last.word] if isinstance(last, AddWord) else []
        if lower and upper and not added_tensors(group):
            found.append(-lower[0] - 1)  # with the clips in the other order
    yield from (offset for offset in dict.fromkeys(found) if 0 < abs(offset) <= _LARGEST)


def _reading(reader: WordGroup, name: str, offset: int, program: WordProgram, one: int) -> WordGroup | str:
    """The group that reads the tensor with its offset, or why it cannot."""
    if not isinstance(reader.head, SumHead):
        return "moves its words"
    if reader.stationary is not None or reader.add_high is not None:
        return "has tiles of another kind"
    if any(term.window.dilates_input and not _overwrite_all(reader, term, program) for term in reader.terms):
        return "has tiles that overwrite parts, and leave others"
    if any(step.tensor == name and (step.word is not None or step.carried) for step in added_tensors(reader)):
        return "adds it as sums"
    terms = tuple(replace(term, offset=offset) if term.tensor == name else term for term in reader.terms)
    steps = tuple(
        replace(step, carried=offset) if isinstance(step, Accumulate) and step.tensor == name else step
        for step in reader.steps
    )
    partial = reader.partial if name not in (term.tensor for term in reader.terms) else _partial(terms, program, one)
    return replace(reader, terms=terms, steps=steps, partial=partial)


def _overwrite_all(reader: WordGroup, term: WordTerm, program: WordProgram) -> bool:
    """Whether the first tiles of each phase of a dilated input reach all pixels (`schedule.weights`)."""
    source, output, window = program.layout(term.tensor), reader.layout, term.window
    taps = np.indices(window.kernel).transpose(1, 2, 0)
    reached = sum(
        max(window.reach((y, x), (source.height, source.width), (output.height, output.width)) for y, x in part)
        for part in (taps[together].reshape(-1, 2).tolist() for together in taps_together(window))
    )
    return len(reader.terms) == 1 and reached == output.pixels


def _partial(terms: Sequence[WordTerm], program: WordProgram, one: int) -> tuple[Words, Words]:
    """Bounds [channels] of every partial sum. On its way, a lane's product is that of its word without the offset, or
    of -offset, which is what the tile's bias begins with.
    """
    low = high = np.zeros(len(terms[0].weight), dtype=np.int64)
    for term in terms:
        tensor = program.tensors[term.tensor]
        words = (*(code << tensor.exponent for code in tensor.stored.codes), -term.offset)
        lowest, highest = dot_bounds(term.weight.reshape(len(low), -1), min(words), max(words))
        low, high = low + lowest // one, high - -highest // one
    return low, high


def _fits(group: WordGroup, data_type: DataType) -> bool:
    """Whether the partial sums, and the products of offsets, are words."""
    if any((term.weight * term.offset % data_type.one).any() for term in group.terms if term.offset):
        return False
    lowest, highest = group.partial
    low, high = prefix_bounds(lowest.tolist(), highest.tolist(), group.bias.tolist())
    return data_type.min_code <= low and high <= data_type.max_code


def _reading_cycles(term: WordTerm, reader: WordGroup, program: WordProgram, architecture: Architecture) -> int:
    """What rows take that a reader's tiles have more: the bias, and lanes without a channel, which hold the offset."""
    a = architecture.array_size
    blocks = program.layout(term.tensor).blocks(a)
    idle = blocks * a - program.layout(term.tensor).channels
    tiles, passes = tile_count(term.weight, a), -(-reader.layout.pixels // architecture.accumulator_depth)
    return passes * (tiles + tiles * idle // blocks) * (1 + vector_beats(architecture))
