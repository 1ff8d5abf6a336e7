"""What must hold of a program of groups in raw words, each rule by its name.

Asked after placement and after each rewrite that changed the program (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pefslc.numeric.accumulate import prefix_bounds
from pefslc.targets.tensil.groups.group import MaxHead, TransposeHead
from pefslc.targets.tensil.groups.verify import faults_of_order
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.steps import (
    Accumulate,
    AddHigh,
    AddOffset,
    ChannelAdd,
    ChannelMultiply,
    LeakyRelu,
    TwoSlopes,
)
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["faults_of_words"]


def faults_of_words(program: WordProgram, data_type: DataType, *, allow_overflow: bool) -> list[str]:
    """Every rule that is broken, with the group or tensor; none for a legal program.

    allow_overflow  sums may leave the data type, as in native arithmetic
    """
    faults = list(
        faults_of_order(
            [port.tensor for port in program.inputs],
            [port.tensor for port in program.outputs],
            [(group.result, group.tensors) for group in program.groups],
            program.tensors,
        )
    )
    if not faults:  # what follows looks up tensors
        sums_fit = not allow_overflow and program.native is None
        faults += [
            f"{group.result}: {fault}"
            for group in program.groups
            for fault in _faults_of_group(program, group, data_type, sums_fit=sums_fit)
        ]
    return faults


def _faults_of_group(program: WordProgram, group: WordGroup, data_type: DataType, *, sums_fit: bool) -> Iterator[str]:
    # Where weights move, the result lies transposed: a row for each channel.
    channels = group.layout.channels if group.stationary is None else group.layout.height
    if program.layout(group.result) != group.layout:
        yield f"its layout is {group.layout}, its tensor's {program.layout(group.result)}"
    if group.bias.shape != (channels,):
        yield f"has {group.bias.shape} biases for {channels} channels"
        return
    words = [group.bias, *(term.weight for term in group.terms)]
    if any(w.min() < data_type.min_code or w.max() > data_type.max_code for w in words if w.size):
        yield f"a weight or bias is no word of {data_type.value}"
    if isinstance(group.head, SumHead):
        yield from _faults_of_terms(program, group)
        low, high = group.partial
        if (low > 0).any() or (high < 0).any():
            yield "partial sums start from 0, which lies outside of their bounds"
        bounds = prefix_bounds(low.tolist(), high.tolist(), group.bias.tolist())
        if sums_fit and not data_type.min_code <= bounds[0] <= bounds[1] <= data_type.max_code:
            yield f"a partial sum may leave {data_type.value}"
    elif group.terms:
        yield "has terms, and no head that sums them"
    elif isinstance(group.head, MaxHead) and program.layout(group.head.tensor).channels != channels:
        yield "a maximum changes the number of channels"
    yield from _faults_of_steps(program, group, data_type)
    yield from _faults_of_offsets(program, group, data_type)


def _faults_of_terms(program: WordProgram, group: WordGroup) -> Iterator[str]:
    if not group.terms:
        yield "has no terms"
    for term in group.terms if group.stationary is None else ():
        source = program.layout(term.tensor)
        if term.weight.shape != (group.layout.channels, source.channels, *term.window.kernel):
            yield f"weights {list(term.weight.shape)} of %{term.tensor} fit neither its channels nor the window"


def _faults_of_offsets(program: WordProgram, group: WordGroup, data_type: DataType) -> Iterator[str]:
    """Offsets of what the group makes and reads: each reader knows them, and can take them off again."""
    made = program.tensors[group.result].offset
    added = [step.word for step in group.steps[-1:] if isinstance(step, AddOffset)]
    if added != ([made] if made else []) or any(isinstance(step, AddOffset) for step in group.steps[:-1]):
        yield f"its steps add {added} at last, and its tensor is stored with {made}"
    if made and group.result in program.output_tensors:
        yield "the host reads it, and knows of no offset"
    for term in group.terms:
        if term.offset != program.tensors[term.tensor].offset:
            yield f"reads %{term.tensor} as if it were stored with {term.offset}"
        elif term.offset and (group.stationary is not None or group.add_high is not None):
            yield f"reads %{term.tensor}, which is stored with {term.offset}, and its tiles cannot take that off"
        elif term.offset and (term.weight * term.offset % data_type.one).any():
            yield f"the offset of %{term.tensor} times a weight is no word"
    if isinstance(group.head, MaxHead | TransposeHead) and program.tensors[group.head.tensor].offset:
        yield f"moves words of %{group.head.tensor}, which is stored with an offset"
    if group.add_high is not None and any(program.tensors[tensor].offset for tensor in group.add_high.tensors):
        yield "high sums are of a tensor that is stored with an offset"


def _faults_of_steps(program: WordProgram, group: WordGroup, data_type: DataType) -> Iterator[str]:
    carried = {maker.result: maker.carried + program.tensors[maker.result].offset for maker in program.groups}
    for step in group.steps:
        match step:
            case AddHigh():
                yield from _faults_of_high_sums(program, group, step, data_type)
            case Accumulate():
                if program.layout(step.tensor) != group.layout:
                    yield f"adds {step.tensor} of another layout"
                if step.low > step.high:
                    yield f"adds words from {step.low} to {step.high}"
                if step.carried != carried.get(step.tensor, 0):
                    yield f"adds {step.tensor} as if it carried {step.carried}, not {carried.get(step.tensor, 0)}"
                if step.word is not None and not data_type.min_code <= step.word <= data_type.max_code:
                    yield f"a step's word {step.word} is none of {data_type.value}"
            case ChannelMultiply(words) | ChannelAdd(words):
                if len(words) != group.layout.channels:
                    yield f"a step has {len(words)} words for {group.layout.channels} channels"
                if group.stationary is not None:
                    yield "a step has a word for each channel, and channels have no lanes of their own"
            case LeakyRelu(word):
                if not 0 < word < data_type.one:
                    yield f"LeakyRelu by {word}"
            case TwoSlopes(above, below):
                if not step.suits(data_type.one):
                    yield f"slopes {above} above zero and {below} below"
            case _:
                if not data_type.min_code <= step.word <= data_type.max_code:
                    yield f"a step's word {step.word} is none of {data_type.value}"
    if any(isinstance(step, Accumulate | AddHigh) for step in group.steps) != (group.sums is not None):
        yield "bounds after an addition belong to groups that add"
    if np.size(group.words) != 2 or group.words[0] > group.words[1]:
        yield f"accumulators from {group.words[0]} to {group.words[1]}"
    if not data_type.min_code <= group.carried <= data_type.max_code:
        yield f"carries {group.carried}, no word of {data_type.value}"


def _faults_of_high_sums(program: WordProgram, group: WordGroup, step: AddHigh, data_type: DataType) -> Iterator[str]:
    own = [program.layout(term.tensor) for term in group.terms]
    if [program.layout(tensor) for tensor in step.tensors] != own or group.steps.index(step) or group.stationary:
        yield "adds high sums of tensors of other layouts, not at first, or where weights move"
    if not data_type.one < step.word <= data_type.max_code:
        yield f"a step's word {step.word} is none of {data_type.value}, or no multiple"
    low, high = prefix_bounds(step.low.tolist(), step.high.tolist(), step.bias.tolist())
    if low < data_type.min_code or high > data_type.max_code or group.carried:
        yield f"a high sum may leave {data_type.value}, or sums carry a constant"
