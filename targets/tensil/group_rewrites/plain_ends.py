"""A plain host: it lays inputs as Tensil's compiler does, pixel by pixel, and reads outputs so.

A pixel's channel blocks lie one behind the other there, and here each block is a raster of its own (`groups.layout`).
Up to A channels that is the same. A tensor of more is read as an image of A channels whose columns are blocks: b of
pixel x is column x * blocks + b. So a convolution of one tap for each block, a stride of `blocks` apart, gathers an
input's, and a transposed one interleaves an output's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import Group, LinearHead, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, Port, Role, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["is_quantized_input", "with_plain_ends"]


def with_plain_ends(program: GroupProgram, array_size: int) -> GroupProgram:
    """The program whose inputs and outputs lie pixel by pixel; the same where they do already."""
    for port in program.inputs:
        if _is_interleaved(program.layout(port.tensor), array_size):
            program = _gathered(program, port, array_size)
    for name, port in {port.tensor: port for port in program.outputs}.items():  # two outputs may be of one tensor
        if _is_interleaved(program.layout(name), array_size):
            program = _interleaved(program, port, array_size)
    return program


def is_quantized_input(program: GroupProgram, group: Group) -> bool:
    """Whether the group makes codes of an input, each of its own word, and of nothing else."""
    head = group.head
    if not isinstance(head, LinearHead) or len(head.terms) != 1 or not head.terms[0].is_copy():
        return False
    return head.terms[0].tensor in {port.tensor for port in program.inputs} and bool(group.steps)


def _is_interleaved(layout: Layout, array_size: int) -> bool:
    return layout.channels > array_size and layout.pixels > 1


def _by_pixel(stored: StoredTensor, array_size: int, number: int | None = None) -> StoredTensor:
    layout = stored.layout
    columns = Layout(array_size, layout.height, layout.width * layout.blocks(array_size))
    return replace(stored.helper(Role.PIXELS, columns, stored.codes, number), by_pixel=layout)


def _gathered(program: GroupProgram, port: Port, array_size: int) -> GroupProgram:
    """The input as the host lays it, and the group that makes the tensor of it that all others read."""
    stored = program.tensors[port.tensor]
    given, blocks, channels = _by_pixel(stored, array_size), stored.layout.blocks(array_size), stored.layout.channels
    terms = []
    for block in range(blocks):
        first = block * array_size
        count = min(array_size, channels - first)
        weight = np.zeros((channels, array_size, 1, 1), dtype=np.int64)
        weight[first : first + count, :count, 0, 0] = np.eye(count, dtype=np.int64)
        terms.append(Term(given.name, weight, Window(kernel=(1, 1), strides=(1, blocks), pads=(0, -block, 0, 0))))
    head = LinearHead(tuple(terms), np.zeros(channels, dtype=np.int64))
    moved = replace(program, inputs=tuple(replace(p, tensor=given.name) if p is port else p for p in program.inputs))
    readers = [group for group in program.groups if port.tensor in group.tensors]
    if len(readers) == 1 and is_quantized_input(program, readers[0]) and port.tensor not in program.output_tensors:
        quantizing = replace(readers[0], head=head)
        return moved.with_groups([quantizing if g is readers[0] else g for g in program.groups], [given])
    gather = Group(stored.name, stored.layout, head, (), (), port.value.origin)
    return moved.with_groups([gather, *program.groups], [given, stored])


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
