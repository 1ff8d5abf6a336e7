"""Leftover channels of tensors that are added, apart from the whole blocks: several pixels of them share a vector.

    have  a: 16 channels on 12 lanes, two vectors a pixel        b = steps(conv(...) + a)
    want  a: 12 channels; a.leftovers: 4 channels of two pixels  b = steps(conv(...) + a), and b.leftovers likewise

What an addition reads has to lie as its result does, so `sums_in_packing` leaves such tensors whole: each step costs
the 4 channels as much as the 12. Apart, they take half of the vectors or less, and whoever reads them (packing groups,
and layers without a packed tensor) finds their pixels as `pixel_groups` lays them. Tensors that are added lie alike, so
they change together, along the axis and with the number of pixels that cost least.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.group_rewrites.convolution_cost import inside_cycles, stream_cycles
from pefslc.targets.tensil.group_rewrites.pixel_groups import between_groups
from pefslc.targets.tensil.groups.group_program import Role
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.matrix.group_steps import added_tensors
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.word_rewrites.addends import only_clips_from_above
from pefslc.targets.tensil.word_rewrites.step_cycles import step_cycles
from pefslc.targets.tensil.words.steps import Accumulate, AddHigh, RawStep, of_channels
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm
from pefslc.targets.tensil.words.word_program import WordProgram, WordTensor

__all__ = ["SplitLeftovers"]

Words = NDArray[np.int64]


class SplitLeftovers:
    """Tensors that are added have their leftover channels in tensors of their own, of several pixels a vector."""

    name: ClassVar[str] = "split-leftovers"
    needs: ClassVar[str] = "requantize-while-packing has run: what it takes is no longer whole; merge-additions follows"
    ensures: ClassVar[str] = "such a tensor has whole blocks only; one of role `leftovers` has the other channels"

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        if program.native is not None or context.allow_overflow:
            LOG.debug("%s: the order of sums counts", self.name)
            return program
        architecture = context.architecture
        for names in _added_together(program, architecture):
            choices = _choices(program.layout(names[0]), architecture.array_size)
            ways = [_split(program, _Way(names, *choice)) for choice in choices]
            priced = [(_saved_cycles(program, way, architecture), way) for way in ways if way is not None]
            saved, found = max(priced, key=lambda each: each[0], default=(0, program))
            if saved > 0:
                program = found
            else:
                LOG.debug("%s: %s stay whole: that takes %d cycles more", self.name, ", ".join(names), -saved)
        return program


# --- which tensors ---------------------------------------------------------------------------------------------------


def _added_together(program: WordProgram, architecture: Architecture) -> Iterator[list[str]]:
    """Tensors that lie alike because they are added, where all of them have leftover channels that may be apart."""
    a = architecture.array_size
    makers = {group.result: group for group in program.groups}
    sets = {name: [name] for name in program.tensors}

    def join(one: str, other: str) -> None:
        if sets[one] is not sets[other]:
            sets[one] += sets[other]
            sets.update(dict.fromkeys(sets[other], sets[one]))

    added = [(group.result, step.tensor) for group in program.groups for step in added_tensors(group)]
    for result, tensor in added:
        join(result, tensor)
    for group in program.groups:
        for of_side in zip(*group.sides, strict=True):  # the same weights multiply both digits of a tensor
            join(of_side[0], of_side[-1])
    for _, tensor in added:
        if tensor in makers and only_clips_from_above(makers[tensor], architecture.data_type):
            join(tensor, makers[tensor].terms[0].tensor)  # which the addition may read in its place
    bound = {*program.output_tensors, *(port.tensor for port in program.inputs)}
    for group in program.groups:
        if not isinstance(group.head, SumHead) or group.stationary is not None:
            bound |= {group.result, *group.tensors}
        if group.carried:  # sums as they are, which what reads them requantizes
            bound.add(group.result)
    for names in {id(each): each for each in sets.values() if len(each) > 1}.values():
        channels = {program.layout(name).channels for name in names}
        leftover = min(channels) % a
        if len(channels) > 1 or not leftover or min(channels) < a or bound & {*names}:
            continue
        if all(program.tensors[name].finer == 1 and not program.tensors[name].offset for name in names):
            yield names


def _choices(layout: Layout, array_size: int) -> Iterator[tuple[int, int, int]]:
    """(axis, pixels that share a vector, the first leftover channel). One instruction reaches pixels a power of two
    apart.
    """
    first = layout.channels // array_size * array_size
    for axis, size in enumerate((layout.height, layout.width)):
        for exponent in range(1, (array_size // (layout.channels - first)).bit_length()):
            if size % (1 << exponent) == 0:
                yield axis, 1 << exponent, first


# --- the program with some of them apart ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """Tensors whose channels from `first` on are to lie apart, so many pixels along an axis in a vector."""

    names: Sequence[str]
    axis: int
    pixels: int
    first: int

    def layouts(self, layout: Layout) -> tuple[Layout, Layout]:
        """Those of the whole blocks, and of the leftover channels."""
        rest = (layout.channels - self.first) * self.pixels
        down, across = (self.pixels, 1) if self.axis == 0 else (1, self.pixels)
        return replace(layout, channels=self.first), Layout(rest, layout.height // down, layout.width // across)

    def term(self, term: WordTerm, tensor: str, weight: Words, read: int, made: int) -> WordTerm | None:
        """The convolution with some of its weights, of `tensor`, from and to so many pixels a vector."""
        found: tuple[Words, Window] | None = weight, term.window
        if read > 1 or made > 1:
            found = between_groups(weight, term.window, self.axis, read, made)
        return None if found is None else replace(term, tensor=tensor, weight=found[0], window=found[1])


def _split(program: WordProgram, way: _Way) -> WordProgram | None:
    """The program that goes this way; None where some convolution has no window for it."""
    tensors: _Apart = {}
    for name in way.names:
        tensor = program.tensors[name]
        main, rest = way.layouts(tensor.layout)
        helper = tensor.stored.helper(Role.LEFTOVERS, rest, tensor.stored.codes)
        tensors[name] = tensor.with_layout(main), WordTensor(helper, tensor.exponent)
    groups: list[WordGroup] = []
    for group in program.groups:
        every = np.arange(group.layout.channels)
        parts = [_part(group, group.result, group.layout, every, 1, way, tensors)]
        if group.result in tensors:
            whole, leftovers = tensors[group.result]
            parts = [
                _part(group, group.result, whole.layout, every[: way.first], 1, way, tensors),
                _part(group, leftovers.stored.name, leftovers.layout, every[way.first :], way.pixels, way, tensors),
            ]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        groups += found
    return program.with_groups(groups, [tensor for pair in tensors.values() for tensor in pair])


_Apart = dict[str, tuple[WordTensor, WordTensor]]  # by the tensor: its whole blocks, and its leftover channels


def _part(
    group: WordGroup, result: str, layout: Layout, outputs: NDArray[np.intp], made: int, way: _Way, tensors: _Apart
) -> WordGroup | None:
    """The group that makes some of the channels, `made` pixels of them in a vector; None where it has no window."""
    terms = _terms(group, outputs, made, way, tensors)
    if terms is None:
        return None
    if group.layout == layout and not any(term.tensor in tensors for term in group.terms):
        return group
    channels = np.tile(outputs, made)

    def of(step: RawStep) -> RawStep:
        match step:
            case Accumulate() if made > 1:
                return replace(step, tensor=tensors[step.tensor][1].stored.name)
            case Accumulate():
                return step
            case AddHigh():
                high = tuple(tensor for _, tensor in terms)
                bias, low, highest = (words[channels] for words in (step.bias, step.low, step.high))
                return replace(step, tensors=high, bias=bias, low=low, high=highest)
            case _:
                return of_channels(step, channels)

    low, high = group.partial
    return replace(
        group,
        result=result,
        layout=layout,
        terms=tuple(term for term, _ in terms),
        bias=group.bias[channels],
        partial=(low[channels], high[channels]),
        steps=tuple(map(of, group.steps)),
    )


def _terms(
    group: WordGroup, outputs: NDArray[np.intp], made: int, way: _Way, tensors: _Apart
) -> list[tuple[WordTerm, str]] | None:
    """The group's terms for some of its channels, each with the tensor that the other side's weights multiply; less
    those that give them nothing. None where one has no window.
    """
    found: list[tuple[WordTerm | None, str]] = []
    none: list[tuple[WordTerm | None, str]] = []
    for term, of_sides in zip(group.terms, zip(*group.sides, strict=True), strict=True):
        weight = term.weight[outputs]
        if term.tensor not in tensors:
            parts = [(of_sides, weight, 1)]
        else:
            leftovers = tuple(tensors[tensor][1].stored.name for tensor in of_sides)
            parts = [(of_sides, weight[:, : way.first], 1), (leftovers, weight[:, way.first :], way.pixels)]
        for names, of_part, read in parts:
            new = way.term(term, names[0], of_part, read, made), names[-1]
            (found if of_part.any() else none).append(new)
    terms = [(term, other) for term, other in found or none[:1] if term is not None]
    return terms if len(terms) == len(found or none[:1]) else None


# --- what it costs ---------------------------------------------------------------------------------------------------


def _saved_cycles(before: WordProgram, after: WordProgram, architecture: Architecture) -> int:
    """Cycles of the groups that are not the same in both programs."""
    one, other = ({id(group) for group in program.groups} for program in (before, after))
    return _cycles(before, other, architecture) - _cycles(after, one, architecture)


def _cycles(program: WordProgram, left_out: set[int], architecture: Architecture) -> int:
    """Of groups but those left out, by their identities: MatMuls, steps, the move of the result, and the reads of what
    local memory has no room for, which each part of a group repeats.

    What only clips an addend counts nothing, for the addition does that (`addends`).
    """
    added = {step.tensor for group in program.groups for step in added_tensors(group)}
    cycles = 0
    for group in program.groups:
        if id(group) in left_out or (group.result in added and only_clips_from_above(group, architecture.data_type)):
            continue
        cycles += group.layout.vectors(architecture.array_size) + step_cycles(group, architecture, carried=True)
        cycles += stream_cycles(map(program.layout, {name for side in group.sides for name in side}), architecture)
        for term in group.terms:
            source = program.layout(term.tensor)
            sums = inside_cycles(term.weight, term.window, source, group.layout, architecture)
            cycles += sums * len(group.sides)
    return cycles
