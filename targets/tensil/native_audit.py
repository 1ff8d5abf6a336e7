"""Native arithmetic, layer by layer: every word that a program stores, held to the words that its layer read.

A bound on the outputs says little: errors of half a unit a product, grown by every layer's sum of |weights|, reach the
range of the outputs after three layers (docs/float-models.md). But a layer's words follow from the words that it read.
The MAC rounds z + x * w, z an integer, which is z + round(x * w), but for ties: those go up or down, as z is odd or
even. So a sum lies between that of the products with ties down, and with ties up, in whatever order they were added;
every step after it is monotone. That is an interval of a unit a tie, and mostly a point.

Where a sum saturates on the way, the order counts. Such a layer is not held to anything on that input, but counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import pairwise
from operator import add

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.ir.semantics import windows
from pefslc.numeric.format import saturate
from pefslc.targets.protocol import LayerAudit
from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.groups.layout import Layout, from_vectors
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.instructions import Opcode
from pefslc.targets.tensil.program.table import MATMUL_ZEROES
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.schedule import Schedule, Stored
from pefslc.targets.tensil.schedule.tensor_memory import Entry
from pefslc.targets.tensil.simulate.simulator import Machine
from pefslc.targets.tensil.words.steps import Accumulate, apply_steps
from pefslc.targets.tensil.words.word_group import WordGroup, WordTerm

__all__ = ["NativeAudit", "rounded_sums", "word_bounds"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NativeAudit:
    """The groups of a program for `batch` pictures, and where their inputs and results lie; `layouts` by tensor."""

    groups: tuple[WordGroup, ...]
    stored: tuple[Stored, ...]
    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]
    layouts: Mapping[str, Layout]
    batch: int = 1

    @classmethod
    def of(cls, plan: Schedule, layouts: Mapping[str, Layout]) -> NativeAudit:
        return cls(plan.groups, plan.stored, plan.inputs, plan.outputs, layouts, plan.batches.size)

    def infer(
        self, machine: Machine, program: TensilProgram, inputs: Mapping[str, Words]
    ) -> tuple[dict[str, Words], tuple[LayerAudit, ...]]:
        """One inference: its outputs, as `Machine.infer` gives them, and what was found of each group."""
        seen = [{e.tensor: self._words_of(e, inputs[e.name], p) for e in self.inputs} for p in range(self.batch)]

        def look(places: list[Stored]) -> None:
            for place in places:
                memory = machine.local if place.local else machine.dram0
                layout = self.layouts[place.tensor]
                firsts = [place.view.address(b, 0, 0) for b in range(layout.blocks(machine.architecture.array_size))]
                vectors = np.concatenate([memory[first : first + layout.pixels] for first in firsts])
                words = self._words(place.tensor, vectors)
                seen[place.picture][place.tensor] = words

        places: dict[int, list[Stored]] = {}
        for place in self.stored:
            places.setdefault(place.before, []).append(place)
        found = machine.infer(program, inputs, before={index: partial(look, there) for index, there in places.items()})
        pictures = range(self.batch)
        handed_out = {(e.tensor, p): self._words_of(e, found[e.name], p) for e in self.outputs for p in pictures}
        saturates = self._saturated_sums(program, machine.saturated)
        data_type = machine.architecture.data_type

        def audit(group: WordGroup, picture: int) -> LayerAudit:
            where = group.result, picture
            return _audit(group, seen[picture], handed_out.get(where), data_type, saturates=where in saturates)

        audits = (reduce(add, (audit(group, picture) for picture in pictures)) for group in self.groups)
        return found, tuple(audits)

    def _words_of(self, entry: Entry, vectors: NDArray[np.signedinteger], picture: int) -> Words:
        """Of an input or output, those of one picture."""
        size = len(vectors) // self.batch
        return self._words(entry.tensor, vectors[picture * size : (picture + 1) * size])

    def _words(self, tensor: str, vectors: NDArray[np.signedinteger]) -> Words:
        return from_vectors(vectors.astype(np.int64), self.layouts[tensor])

    def _saturated_sums(self, program: TensilProgram, saturated: Sequence[int]) -> set[tuple[str, int]]:
        """Results, and pictures, of whose run a sum of products saturated. A MatMul of zeroes adds a constant, often to
        that end.
        """
        table, index = program.table, np.array(saturated, dtype=np.int64)
        sums = index[(table.opcode[index] == Opcode.MATMUL) & ((table.flags[index] & MATMUL_ZEROES) == 0)]
        ends = sorted({place.before for place in self.stored})
        counts = np.searchsorted(sums, [0, *ends])
        wrong = {end for end, (a, b) in zip(ends, pairwise(counts), strict=True) if b > a}
        return {(place.tensor, place.picture) for place in self.stored if place.before in wrong}


def _audit(
    group: WordGroup, seen: Mapping[str, Words], handed_out: Words | None, data_type: DataType, *, saturates: bool
) -> LayerAudit:
    """`handed_out`: what became of its words, where they are an output."""
    found, origin = seen[group.result], group.origin
    if saturates:
        return LayerAudit(origin, words=0, outside=0, furthest=0, saturated=1)
    low, high = word_bounds(group, seen, data_type)
    off = np.maximum(np.maximum(low - found, found - high), 0)
    if handed_out is not None:
        off += np.abs(handed_out - found)
    return LayerAudit(origin, found.size, int(np.count_nonzero(off)), int(off.max()), saturated=0)


def word_bounds(group: WordGroup, words: Mapping[str, Words], data_type: DataType) -> tuple[Words, Words]:
    """The lowest and the highest words [C, H, W] that the group may make of the tensors in `words`."""
    head = group.head
    low = high = group.bias[:, None, None]
    if isinstance(head, MaxHead):
        taps = _taps(words[head.tensor], head.window, group.layout, fill=data_type.min_code)
        low = high = np.asarray(taps.max(axis=(3, 4)), dtype=np.int64)
    for term in group.terms:
        least, most = rounded_sums(words[term.tensor], term, group.layout, data_type)
        low, high = low + least, high + most
    ends = []
    for end in (low, high):
        for word in (0, group.carried):
            end = saturate(end + word, data_type.min_code, data_type.max_code)
        for step in group.steps:
            if isinstance(step, Accumulate):
                added = words[step.tensor]
                added = added if step.ceiling is None else np.minimum(added, step.ceiling)
                end = saturate(end + added, data_type.min_code, data_type.max_code)
            else:
                shape = end.shape
                end = apply_steps([step], end.reshape(shape[0], -1), data_type).reshape(shape)
        ends.append(end)
    return ends[0], ends[1]


def rounded_sums(x: Words, term: WordTerm, layout: Layout, data_type: DataType) -> tuple[Words, Words]:
    """The sums of the term's products, each rounded to the nearest word, ties down; and ties up.

    x [C_in, H, W] words; results as in `layout`. A product is at most 2^62: int64 suffices.
    """
    taps, weight = _taps(x, term.window, layout), term.weight
    channels, height, width, rows, columns = taps.shape
    point = data_type.binary_point
    half = 1 << (point - 1)
    low = np.zeros((len(weight), height * width), dtype=np.int64)
    ties = np.zeros_like(low)
    for c, ky, kx in np.ndindex(channels, rows, columns):
        column = weight[:, c, ky, kx]
        outputs = np.flatnonzero(column)
        if not outputs.size:
            continue
        products = column[outputs, None] * taps[c, :, :, ky, kx].reshape(1, -1)
        down = (products + (half - 1)) >> point
        low[outputs] += down
        ties[outputs] += ((products + half) >> point) - down
    shape = len(weight), height, width
    return low.reshape(shape), (low + ties).reshape(shape)


def _taps(x: Words, window: Window, layout: Layout, fill: int = 0) -> Words:
    """[C, H', W', KH, KW], with as much padding behind the image as the last windows hang over, whatever `window` says:
    one that packs pixels says nothing of it.
    """
    (sh, sw), (eh, ew), (top, left, _, _) = window.strides, window.extent, window.pads
    rows, columns = window.dilated(*x.shape[1:])
    below = (layout.height - 1) * sh + eh - top - rows
    behind = (layout.width - 1) * sw + ew - left - columns
    found: Words = windows(x[None], replace(window, pads=(top, left, below, behind)), fill)[0]
    return found
