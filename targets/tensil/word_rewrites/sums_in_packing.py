"""Requantization while packing: leftover channels that only packed vectors serve are not stored by themselves.

The packing group (`group_rewrites.leftover_channels`) sends each leftover channel through the array once per
neighbour, and a MatMul is what requantizes, too. So the leftover channels' *sums* are stored, and the packing MatMuls
shift and clip them: the diagonal of the matrix plan in place of ones, and its constants after the channel in the order
of the array's rows. A row's constant comes from a spare lane of the stored sums, which a bias put there.

Where lanes are left, a vector of sums holds those of two neighbouring pixels or more (`pixel_groups`), of a row, of a
column or of both: half as many vectors are stored, and three neighbours lie in two of them. Where a sum outside of the
image is one of code 0 - that of a quantizer of pixels is - the first vector may begin before the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.group_rewrites.convolution_cost import tiles_of_few_lanes
from pefslc.targets.tensil.group_rewrites.pixel_groups import making_groups, reading_groups
from pefslc.targets.tensil.groups.group_program import Role, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.matrix.group_steps import added_tensors, leading_plan
from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan, is_certified_chain
from pefslc.targets.tensil.matrix.matrix_steps import AddWord, Diagonal
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.words.steps import apply_steps
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm
from pefslc.targets.tensil.words.word_program import WordProgram, WordTensor

__all__ = ["RequantizeWhilePacking"]

Words = NDArray[np.int64]
_LEAST_PIXELS = 100  # below, another group costs more than the four cycles a vector that are saved


class RequantizeWhilePacking:
    """Leftover channels that only packed vectors serve are stored as sums, and requantized while they are packed."""

    name: ClassVar[str] = "requantize-while-packing"
    needs: ClassVar[str] = "pack-leftovers has run"
    ensures: ClassVar[str] = (
        "the tensor has whole blocks only, or is gone; a tensor of role `sums` feeds the packing group"
    )

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        packed = [t.stored for t in program.tensors.values() if t.stored.role is Role.PACKED]
        for tensor in packed:
            result = _requantized(program, tensor, context.architecture)
            if isinstance(result, str):
                LOG.debug("%s: %s stays as it is: %s", self.name, tensor.of, result)
            else:
                program = result
        return program


def _requantized(program: WordProgram, packed: StoredTensor, architecture: Architecture) -> WordProgram | str:
    """The program without the leftover channels of one tensor, or why they stay."""
    name, groups = packed.of, {group.result: group for group in program.groups}
    if name in program.output_tensors:
        return "it is an output"
    tensor, packer = program.tensors[name], groups[packed.name]
    made, first = groups[name], tensor.layout.channels // architecture.array_size * architecture.array_size
    constants = _constants(made, first, architecture)
    if constants is None:
        return "packing cannot requantize it, or gains nothing"
    if tensor.exponent != program.tensors[packed.name].exponent:
        return "a reader's wide weights want its packed channels at another exponent"
    if not _only_the_first_are_read(name, first, packed.name, program.groups):
        return "others read its leftover channels"
    plan, words = constants
    layout = replace(tensor.layout, channels=first)
    layouts = {**program.layouts, name: layout}
    leftovers = _Leftovers(made, first, packer, tensor.stored, plan, words)
    sums, packing = min(leftovers.ways(architecture), key=lambda way: _cycles(way, layouts, architecture))
    rest = (_with_channels(made, slice(0, first), layout),) if first else ()
    renewed = {
        name: (*rest, sums),  # the sums follow what they were a part of
        packed.name: (packing,),
    }
    changed = [part for group in program.groups for part in renewed.get(group.result, (group,))]
    # The sums can be anything that a word can be.
    stored = tensor.stored.helper(
        Role.SUMS, sums.layout, (architecture.data_type.min_code, architecture.data_type.max_code)
    )
    return program.with_groups(
        [_reading_the_first(group, name, first) for group in changed],
        [*([tensor.with_layout(layout)] if first else []), WordTensor(stored, 0)],
    )


def _constants(made: WordGroup, first: int, architecture: Architecture) -> tuple[MatrixPlan, tuple[int, ...]] | None:
    """The plan that requantizes, and the words added after its shift; None where packing cannot, or gains nothing."""
    data_type = architecture.data_type
    plan = leading_plan(made, data_type)
    layout = made.layout
    if plan is None or added_tensors(made) or plan.carried > 0 or layout.pixels < _LEAST_PIXELS:
        return None
    shift, *rest = plan.steps
    if not isinstance(shift, Diagonal):
        return None
    added = (shift.bias, *(step.word for step in rest if isinstance(step, AddWord)))
    words = tuple(word for word in added if word)
    fits = all(data_type.min_code <= -abs(word) - plan.carried <= data_type.max_code for word in words)
    if layout.channels - first + len(words) > architecture.array_size or not fits:
        return None
    return (plan, words) if is_certified_chain(plan, words, made.steps, *made.words, data_type) else None


def _only_the_first_are_read(name: str, first: int, packer: str, groups: Sequence[WordGroup]) -> bool:
    """Whether nobody but the packing group reads a channel after the first ones."""
    for group in groups:
        if group.result == packer or name not in group.tensors:
            continue
        if not isinstance(group.head, SumHead) or any(added.tensor == name for added in added_tensors(group)):
            return False
        if any(term.weight[:, first:].any() for term in group.terms if term.tensor == name):
            return False
    return True


def _with_channels(group: WordGroup, channels: slice, layout: Layout) -> WordGroup:
    """The group that computes some of the channels; terms that give them nothing left out."""
    terms = [replace(term, weight=term.weight[channels]) for term in group.terms]
    low, high = group.partial
    return replace(
        group,
        layout=layout,
        terms=tuple(term for term in terms if term.weight.any()) or tuple(terms[:1]),
        bias=group.bias[channels],
        partial=(low[channels], high[channels]),
    )


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Which pixels share a vector: so many rows and columns; the first vector begins so many before the image."""

    size: tuple[int, int]
    before: tuple[int, int] = (0, 0)

    @property
    def count(self) -> int:
        return self.size[0] * self.size[1]

    def layout(self, image: Layout, channels: int, more: int) -> Layout:
        """Of vectors with so many channels of each pixel, and so many lanes more."""
        height, width = (
            -(-(size + before) // pixels)
            for size, before, pixels in zip((image.height, image.width), self.before, self.size, strict=True)
        )
        return Layout(self.count * channels + more, height, width)

    def making(self, weight: Words, window: Window) -> tuple[Words, Window] | None:
        """The convolution whose results are such vectors."""
        found = making_groups(weight, window, 1, self.size[1], self.before[1])
        return found and making_groups(*found, 0, self.size[0], self.before[0])

    def reading(self, weight: Words, window: Window) -> tuple[Words, Window] | None:
        """The convolution that reads such vectors."""
        found = reading_groups(weight, window, 1, self.size[1], self.before[1])
        return found and reading_groups(*found, 0, self.size[0], self.before[0])


@dataclass(frozen=True, slots=True)
class _Leftovers:
    """The channels of `made`, which stores `stored`, from `first` on, which only `packer` reads; the plan that
    requantizes them, and the words added after its shift.
    """

    made: WordGroup
    first: int
    packer: WordGroup
    stored: StoredTensor
    plan: MatrixPlan
    words: tuple[int, ...]

    def ways(self, architecture: Architecture) -> Iterator[tuple[WordGroup, WordGroup]]:
        """The groups of the sums and of the packing, for each number of pixels that a vector of sums can hold."""
        a, data_type = architecture.array_size, architecture.data_type
        leftover = self.made.layout.channels - self.first
        terms = [(term.weight[self.first :], term.window) for term in self.made.terms]
        ones = self._ones(leftover)
        for vector in self._vectors((a - len(self.words)) // leftover, data_type):
            makers = [vector.making(*term) for term in terms]
            packing = vector.reading(*ones)
            if packing is not None and None not in makers:
                sums = self._sums([m for m in makers if m is not None], vector)
                yield sums, self._packing(*packing, sums.result, data_type)

    def _vectors(self, most: int, data_type: DataType) -> Iterator[_Pixels]:
        """The ways to put up to `most` pixels into a vector."""
        layout = self.made.layout
        counts = [1 << exponent for exponent in range(most.bit_length())]  # one instruction reaches pixels so far apart
        is_zero = self._is_zero_outside(data_type)
        for rows, columns in product(counts, counts):
            if rows * columns > most:
                continue
            if not (layout.height % rows or layout.width % columns):
                yield _Pixels((rows, columns))
            if is_zero:
                shifts = product(range(rows), range(columns))
                yield from (_Pixels((rows, columns), before) for before in shifts if any(before))

    def _is_zero_outside(self, data_type: DataType) -> bool:
        """Whether a pixel of the result that lies outside of the image has sums that the steps take to 0."""
        if any(term.window != Window(kernel=(1, 1)) for term in self.made.terms):
            return False
        return not apply_steps(self.made.steps, self.made.bias[self.first :, None], data_type).any()

    def _ones(self, leftover: int) -> tuple[Words, Window]:
        (term,) = self.packer.terms
        return (term.weight[:, -leftover:] != 0).astype(np.int64), term.window

    def _sums(self, makers: Sequence[tuple[Words, Window]], vector: _Pixels) -> WordGroup:
        """The sums of the channels of the pixels of a vector, with the plan's constant, and -|word| in a lane for each
        word.
        """
        made, words = self.made, self.words
        layout = vector.layout(made.layout, made.layout.channels - self.first, len(words))
        none = np.zeros(len(words), dtype=np.int64)
        lanes = np.array([-abs(word) - self.plan.carried for word in words], dtype=np.int64)

        def with_words(per_channel: Words, last: Words) -> Words:
            return np.concatenate([np.tile(per_channel[self.first :], vector.count), last])

        terms = [
            WordTerm(term.tensor, np.concatenate([weight, np.zeros((len(words), *weight.shape[1:]), np.int64)]), window)
            for term, (weight, window) in zip(made.terms, makers, strict=True)
        ]
        return replace(
            made,
            result=self.stored.helper(Role.SUMS, layout, (0, 0)).name,
            layout=layout,
            terms=tuple(term for term in terms if term.weight.any()) or tuple(terms[:1]),
            bias=with_words(made.bias, lanes),
            partial=(with_words(made.partial[0], none), with_words(made.partial[1], none)),
            steps=(),
            carried=self.plan.carried,
        )

    def _packing(self, ones: Words, window: Window, sums: str, data_type: DataType) -> WordGroup:
        """The packing group with the sums as its input: shift in place of ones, then the constants, row by row."""
        shift = self.plan.steps[0]
        assert isinstance(shift, Diagonal)
        lanes, channels, *kernel = ones.shape
        weight = np.zeros((lanes, channels + len(self.words), *kernel), dtype=np.int64)
        weight[:, :channels] = ones * shift.word
        for i, word in enumerate(self.words):
            weight[:, channels + i] = ones.any(axis=1) * (data_type.one if word < 0 else -data_type.one)
        renewed = WordTerm(sums, weight, window)
        return replace(self.packer, terms=(renewed,))


def _cycles(way: tuple[WordGroup, WordGroup], layouts: dict[str, Layout], architecture: Architecture) -> int:
    """Cycles of both groups' MatMuls, and of storing the sums."""
    sums, _ = way
    sources = {**layouts, sums.result: sums.layout}
    return sums.layout.pixels + sum(
        tiles_of_few_lanes(term.weight, term.window, sources[term.tensor], group.layout, architecture)[0]
        for group in way
        for term in group.terms
    )


def _reading_the_first(group: WordGroup, name: str, first: int) -> WordGroup:
    terms = tuple(replace(term, weight=term.weight[:, :first]) if term.tensor == name else term for term in group.terms)
    return replace(group, terms=terms)
