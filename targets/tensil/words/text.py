"""The printed form of programs of groups in raw words. It is for people: weights are shown as shapes and hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pefslc.targets.tensil.groups.group import MaxHead, TransposeHead
from pefslc.targets.tensil.groups.group_program import Port
from pefslc.targets.tensil.groups.text import array_text, layout_text, port_line, tensor_notes, window_text
from pefslc.targets.tensil.words.steps import (
    Accumulate,
    AddHigh,
    AddOffset,
    ChannelAdd,
    ChannelMultiply,
    LeakyRelu,
    Maximum,
    Minimum,
    Multiply,
    RawStep,
    TwoSlopes,
)
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram, WordTensor

__all__ = ["print_words"]


def print_words(program: WordProgram) -> str:
    """One line for each tensor that comes in or goes out, a paragraph for each group."""
    lines = [] if program.native is None else [f"native {program.native}"]
    lines += [*_port_lines("input", program.inputs, program), ""]
    for group in program.groups:
        lines += [*_group_lines(program, group), ""]
    return "\n".join([*lines, *_port_lines("output", program.outputs, program)]) + "\n"


def _port_lines(kind: str, ports: Iterable[Port], program: WordProgram) -> Iterator[str]:
    for port in ports:
        tensor = program.tensors[port.tensor]
        yield port_line(kind, port, tensor.stored) + _placement_text(tensor)


def _group_lines(program: WordProgram, group: WordGroup) -> Iterator[str]:
    tensor = program.tensors[group.result]
    how = next((outcome.implementation for outcome in program.outcomes if outcome.tensor == group.result), {})
    done = "; ".join(f"{op}: {text}" for op, text in how.items())
    computes = f"  // {done}" if done else "  // a helper"
    stored = f"{layout_text(group.layout)}{tensor_notes(tensor.stored)}{_placement_text(tensor)}"
    yield f"%{group.result}: {stored}{computes}"
    match group.head:
        case SumHead():
            for term in group.terms:
                offset = f", which is stored with {term.offset} more" if term.offset else ""
                words = array_text(term.weight)
                yield f"    + conv %{term.tensor} {window_text(term.window)} words {words}{offset}"
            if group.bias.any():
                yield f"    + bias {array_text(group.bias)}, with what makes the steps certify"
            if group.stationary is not None:
                yield "    activations stay, weights move"
        case MaxHead() as head:
            yield f"    max %{head.tensor} {window_text(head.window)}"
        case TransposeHead() as head:
            yield f"    transpose %{head.tensor}"
    yield f"    accumulators {group.words[0]}..{group.words[1]}"
    for step in group.steps:
        yield f"    {_step_text(step)}"
    if group.sums is not None:
        yield f"    accumulators after the addition {group.sums[0]}..{group.sums[1]}"
    if group.carried:
        yield f"    stored with {group.carried} more"


def _placement_text(tensor: WordTensor) -> str:
    finer = f"/{tensor.finer}" if tensor.finer > 1 else ""
    offset = f", stored with {tensor.offset} more" if tensor.offset else ""
    return f", words at 2^{tensor.exponent}{finer}{offset}"


def _step_text(step: RawStep) -> str:
    match step:
        case Multiply(word):
            return f"multiply {word}"
        case Maximum(word):
            return f"max {word}"
        case Minimum(word):
            return f"min {word}"
        case AddOffset(word):
            return f"add {word}"
        case LeakyRelu(word):
            return f"leaky relu {word}"
        case TwoSlopes(above, below):
            return f"multiply {above}, below zero {below}"
        case ChannelMultiply(words):
            return f"multiply per channel {min(words)}..{max(words)}"
        case ChannelAdd(words):
            return f"add per channel {min(words)}..{max(words)}"
        case AddHigh(tensors, word):
            return f"add sums of {' and '.join(f'%{tensor}' for tensor in tensors)} with the same weights, times {word}"
        case Accumulate():
            ceiling = "" if step.ceiling is None else f", at most {step.ceiling}"
            times = "" if step.word is None else f" times {step.word}"
            carried = f", which carries {step.carried}" if step.carried else ""
            return f"add %{step.tensor}{times} {step.low}..{step.high}{ceiling}{carried}"
