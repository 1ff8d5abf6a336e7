"""A plain host: it lays inputs as Tensil's compiler does, pixel by pixel, and reads outputs so.

A pixel's channel blocks lie one behind the other there, and here each block is a raster of its own (`groups.layout`).
Up to A channels that is the same. A tensor of more is read as an image of A channels whose columns are blocks: b of
pixel x is column x * blocks + b. So a convolution of one tap for each block, a stride of `blocks` apart, gathers an
input's, and a transposed one interleaves an output's.

A dense host leaves no lanes empty: the numbers of all pixels, one behind the other. Where the pixels that fill whole
vectors are parts of one row, these vectors are gathered as the blocks of one, and a transposed convolution takes the
pixels out again.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import Group, LinearHead, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, Port, Role, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["is_quantized_input", "with_plain_ends"]


def with_plain_ends(program: GroupProgram, array_size: int, *, dense: bool = False) -> GroupProgram:
    """The program whose inputs and outputs lie pixel by pixel; the same where they do already.

    dense  inputs without gaps. Raises CompileError for one whose rows do not fill vectors
    """
    for port in program.inputs:
        layout = program.layout(port.tensor)
        if dense and layout.pixels > 1 and layout.channels % array_size:
            program = _taken_out(program, port, array_size)
        elif _is_interleaved(program.layout(port.tensor), array_size):
            program = _gathered(program, port, array_size)
    for name, port in {port.tensor: port for port in program.outputs}.items():  # two outputs may be of one tensor
        if _is_interleaved(program.layout(name), array_size):
            program = _interleaved(program, port, array_size)
    return program


def is_quantized_input(program: GroupProgram, group: Group) -> bool:
    """Whether the group makes codes of an input, each of one word of it, and of nothing else."""
    head = group.head
    if not isinstance(head, LinearHead) or not group.steps:
        return False
    given = {port.tensor for port in program.inputs}
    given |= {name for name, stored in program.tensors.items() if stored.role is Role.PIXELS}
    return all(term.tensor in given and _takes_one(term) for term in head.terms)


def _takes_one(term: Term) -> bool:
    """Whether each result is one element, as it is: at each tap, or of all taps where each sees other elements."""
    rows = term.weight.reshape(len(term.weight), -1)
    return bool((rows.sum(axis=1) <= max(term.window.input_dilations)).all()) and set(np.unique(rows)) <= {0, 1}


def _is_interleaved(layout: Layout, array_size: int) -> bool:
    return layout.channels > array_size and layout.pixels > 1


def _by_pixel(stored: StoredTensor, array_size: int, number: int | None = None) -> StoredTensor:
    layout = stored.layout
    columns = Layout(array_size, layout.height, layout.width * layout.blocks(array_size))
    return replace(stored.helper(Role.PIXELS, columns, stored.codes, number), by_pixel=layout)


def _gathered(program: GroupProgram, port: Port, array_size: int) -> GroupProgram:
    """The input as the host lays it, and the group that makes the tensor of it that all others read."""
    stored = program.tensors[port.tensor]
    given = _by_pixel(stored, array_size)
    head = _gathering(given, stored.layout, array_size)
    moved = replace(program, inputs=tuple(replace(p, tensor=given.name) if p is port else p for p in program.inputs))
    readers = [group for group in program.groups if port.tensor in group.tensors]
    return _made_by(head, stored, moved, readers, given, port)


def _taken_out(program: GroupProgram, port: Port, array_size: int) -> GroupProgram:
    """The input as a dense host gives it, and the group that makes the tensor of it that all others read."""
    stored = program.tensors[port.tensor]
    channels, height, width = stored.layout.channels, stored.layout.height, stored.layout.width
    vectors = channels // gcd(channels, array_size)  # that so many pixels fill
    pixels = vectors * array_size // channels
    if width % pixels:
        raise CompileError(
            Code.TCU_UNSUPPORTED,
            f"a dense host's rows of {width} pixels of {channels} channels do not fill vectors of {array_size} lanes: "
            f"{pixels} pixels fill {vectors}",
            at=port.value.origin,
            hint=f"--host plain, with zeros in the lanes left; or rows of a multiple of {pixels} pixels",
        )
    columns = Layout(array_size, height, width // pixels * vectors)
    given = replace(stored.helper(Role.PIXELS, columns, stored.codes), by_pixel=stored.layout, dense=True)
    groups, added, whole = list(program.groups), [given], given
    if vectors > 1:
        together = Layout(vectors * array_size, height, width // pixels)
        whole = stored.helper(Role.PIXELS, together, stored.codes, vectors)
        groups.insert(
            0, Group(whole.name, together, _gathering(given, together, array_size), (), (), port.value.origin)
        )
        added.append(whole)
    weight = np.zeros((channels, vectors * array_size, 1, pixels), dtype=np.int64)
    for j in range(pixels):
        weight[:, j * channels : (j + 1) * channels, 0, pixels - 1 - j] = np.eye(channels, dtype=np.int64)
    window = Window(kernel=(1, pixels), pads=(0, pixels - 1, 0, pixels - 1), input_dilations=(1, pixels))
    head = LinearHead((Term(whole.name, weight, window),), np.zeros(channels, dtype=np.int64))
    moved = replace(program, inputs=tuple(replace(p, tensor=given.name) if p is port else p for p in program.inputs))
    readers = [group for group in program.groups if port.tensor in group.tensors]
    return _made_by(head, stored, moved.with_groups(groups, added), readers, given, port)


def _gathering(given: StoredTensor, together: Layout, array_size: int) -> LinearHead:
    """`together`, whose blocks are neighbouring columns of what is given."""
    blocks, channels = together.blocks(array_size), together.channels
    terms = []
    for block in range(blocks):
        first = block * array_size
        count = min(array_size, channels - first)
        weight = np.zeros((channels, array_size, 1, 1), dtype=np.int64)
        weight[first : first + count, :count, 0, 0] = np.eye(count, dtype=np.int64)
        terms.append(Term(given.name, weight, Window(kernel=(1, 1), strides=(1, blocks), pads=(0, -block, 0, 0))))
    return LinearHead(tuple(terms), np.zeros(channels, dtype=np.int64))


def _made_by(
    head: LinearHead, stored: StoredTensor, program: GroupProgram, readers: list[Group], given: StoredTensor, port: Port
) -> GroupProgram:
    """The program in which `head` makes the tensor: in the group that quantizes it, where that alone reads it."""
    groups = program.groups
    if len(readers) == 1 and _copies(readers[0], port.tensor) and port.tensor not in program.output_tensors:
        quantizing = replace(readers[0], head=head)
        return program.with_groups([quantizing if g is readers[0] else g for g in groups], [given])
    made = Group(stored.name, stored.layout, head, (), (), port.value.origin)
    first = next((i for i, group in enumerate(groups) if stored.name in group.tensors), len(groups))
    return program.with_groups([*groups[:first], made, *groups[first:]], [given, stored])


def _copies(group: Group, tensor: str) -> bool:
    """Whether the group reads the tensor as it is, and nothing else, and changes it."""
    head = group.head
    if not isinstance(head, LinearHead) or len(head.terms) != 1 or head.bias.any():
        return False
    return head.terms[0].is_copy() and group.tensors == [tensor] and bool(group.steps)


def _interleaved(program: GroupProgram, port: Port, array_size: int) -> GroupProgram:
    """The output as the host reads it, made by a last group of the tensor that holds it."""
    stored = program.tensors[port.tensor]
    is_input = stored.name in {program.tensors[p.tensor].of for p in program.inputs}
    read = _by_pixel(stored, array_size, 1 if is_input else None)
    blocks, channels = stored.layout.blocks(array_size), stored.layout.channels
    weight = np.zeros((array_size, channels, 1, blocks), dtype=np.int64)
    for block in range(blocks):
        first = block * array_size
        count = min(array_size, channels - first)
        weight[:count, first : first + count, 0, blocks - 1 - block] = np.eye(count, dtype=np.int64)
    window = Window(kernel=(1, blocks), pads=(0, blocks - 1, 0, blocks - 1), input_dilations=(1, blocks))
    head = LinearHead((Term(stored.name, weight, window),), np.zeros(array_size, dtype=np.int64))
    last = Group(read.name, read.layout, head, (), (), port.value.origin)
    ports = (replace(p, tensor=read.name) if p.tensor == stored.name else p for p in program.outputs)
    made = replace(program, outputs=tuple(ports))
    return made.with_groups([*program.groups, last], [read])
