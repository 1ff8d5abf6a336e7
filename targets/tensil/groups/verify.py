"""What must hold of a program of groups in codes, each rule by its name.

Asked after selection and after each rewrite that changed the program (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Iterator

from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, MaxHead, Term, TransposeHead
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["faults_of_groups", "faults_of_order"]


def faults_of_groups(program: GroupProgram) -> list[str]:
    """Every rule that is broken, with the group or tensor; none for a legal program."""
    faults = [*_faults_of_tensors(program)]
    faults += faults_of_order(
        [port.tensor for port in program.inputs],
        [port.tensor for port in program.outputs],
        [(group.result, group.tensors) for group in program.groups],
        program.tensors,
    )
    if not faults:  # what follows looks up tensors
        faults += [f"{group.result}: {fault}" for group in program.groups for fault in _faults_of_group(program, group)]
    return faults


def faults_of_order(
    inputs: list[str], outputs: list[str], groups: list[tuple[str, list[str]]], tensors: object
) -> Iterator[str]:
    """A tensor is made once, before it is read. `groups`: results, and what is read for them."""
    assert isinstance(tensors, dict)
    made = set(inputs)
    for result, reads in groups:
        yield from (f"{result}: reads {tensor}, which is not there yet" for tensor in reads if tensor not in made)
        if result in made:
            yield f"{result}: is made twice"
        made.add(result)
    yield from (f"{tensor}: is an output that nobody makes" for tensor in outputs if tensor not in made)
    yield from (f"{tensor}: has no record" for tensor in made if tensor not in tensors)
    yield from (f"{tensor}: is neither an input nor made" for tensor in tensors if tensor not in made)


def _faults_of_tensors(program: GroupProgram) -> Iterator[str]:
    for name, tensor in program.tensors.items():
        if tensor.name != name:
            yield f"{name}: its record says {tensor.name}"
        if tensor.low > tensor.high:
            yield f"{name}: holds codes from {tensor.low} to {tensor.high}"
        if (tensor.role is Role.VALUE) != (not tensor.of):
            yield f"{name}: a helper, and only a helper, says what it is of"
        if min(tensor.layout.channels, tensor.layout.height, tensor.layout.width) < 1:
            yield f"{name}: is empty"


def _faults_of_group(program: GroupProgram, group: Group) -> Iterator[str]:
    if program.layout(group.result) != group.layout:
        yield f"its layout is {group.layout}, its tensor's {program.layout(group.result)}"
    match group.head:
        case LinearHead() as head:
            # Where weights move, the result lies transposed: a row for each channel.
            channels = group.layout.channels if head.stationary is None else group.layout.height
            if head.bias.shape != (channels,):
                yield f"has {head.bias.shape} biases for {channels} channels"
            if not head.terms:
                yield "has no terms"
            if head.stationary is None:
                for term in head.terms:
                    yield from faults_of_term(term, program.layout(term.tensor), group.layout)
        case MaxHead() as head:
            if program.layout(head.tensor).channels != group.layout.channels:
                yield "a maximum changes the number of channels"
        case TransposeHead() as head:
            source = program.layout(head.tensor)
            if source.channels * source.pixels != group.layout.channels * group.layout.pixels:
                yield "a transposition changes the number of elements"
    for step in group.steps:
        if isinstance(step, AddTensor) and program.layout(step.tensor) != group.layout:
            yield f"adds {step.tensor} of another layout"


def faults_of_term(term: Term, source: Layout, output: Layout) -> Iterator[str]:
    """The weights fit the tensor that is read, and every result has a window."""
    outputs, inputs, *kernel = term.weight.shape
    if outputs != output.channels or inputs != source.channels:
        yield f"weights for {inputs} -> {outputs} channels between {source.channels} and {output.channels}"
    if tuple(kernel) != term.window.kernel:
        yield f"weights of kernel {tuple(kernel)} under a window of {term.window.kernel}"
