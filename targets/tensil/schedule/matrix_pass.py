"""Matrix steps of a pass in instructions: bias rows and diagonal matrices, through which the accumulators pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pefslc.targets.tensil.matrix.group_steps import added_tensors
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddByMatrix,
    AddWord,
    ChannelAddWord,
    ChannelDiagonal,
    ChannelDiagonalAgain,
    Diagonal,
    DiagonalAgain,
    MatrixStep,
    SlopesByMatrix,
)
from pefslc.targets.tensil.matrix.resident_rows import scale_of
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.part import Part
from pefslc.targets.tensil.schedule.pass_steps import PassSteps
from pefslc.targets.tensil.schedule.result_place import ResultPlace
from pefslc.targets.tensil.schedule.weight_stream import WeightStream
from pefslc.targets.tensil.words.steps import AddHigh
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["MatrixPass"]


class _Add(Protocol):
    def __call__(
        self, tensor: str, part: Part, chosen: Sequence[int], start: int, *, by_matmul: bool = False
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixPass:
    """The matrix steps of one group's passes.

    add            adds a tensor to the accumulators of chosen[start:]: by moves, or by the matrix in the array
    positive_base  scratch for positive parts
    a              the array's size
    """

    group: WordGroup
    place: ResultPlace
    emitter: Emitter
    steps: PassSteps
    weights: WeightStream
    add: _Add
    positive_base: int
    a: int

    def emit(self, steps: Sequence[MatrixStep], part: Part, chosen: Sequence[int], first: int) -> None:
        """Matrix steps on the accumulators of chosen[first:]."""
        self.weights.forget_array()
        base = first * part.vectors
        for step in steps:
            match step:
                case AddWord():
                    self.emitter.load_weights(self.steps.bring_rows(step), 1, has_bias=True)
                    self.emitter.matmul_zeroes(base, part.vectors * len(chosen) - base, accumulate=True)
                case ChannelAddWord():
                    for i, block in enumerate(chosen[first:], first):
                        self.emitter.load_weights(self.steps.bring_rows(step) + block, 1, has_bias=True)
                        self.emitter.matmul_zeroes(i * part.vectors, part.vectors, accumulate=True)
                case Diagonal() | ChannelDiagonal():
                    self._diagonal(step, part, chosen, first)
                case ChannelDiagonalAgain():
                    for i, block in enumerate(chosen[first:], first):
                        matrix = self.steps.bring_rows(step) + block * (self.a + 1)
                        self.emitter.load_weights(matrix, self.a + 1, has_bias=True)
                        self.place.multiply(self.place.passed_through(part), part, i, block, accumulate=True)
                case DiagonalAgain():
                    self.emitter.load_weights(self.steps.bring_rows(step), self.a + 1, has_bias=True)
                    for i, block in enumerate(chosen[first:], first):
                        self.place.multiply(self.place.passed_through(part), part, i, block, accumulate=True)
                case SlopesByMatrix():
                    self._slopes(step, part, chosen, first)
                case AddByMatrix():
                    (added,) = added_tensors(self.group)
                    if not step.moves:
                        self.emitter.load_weights(self.steps.bring_rows(step), self.a + 1, has_bias=True)
                    self.add(added.tensor, part, chosen, first, by_matmul=not step.moves)

    def _diagonal(self, step: Diagonal | ChannelDiagonal, part: Part, chosen: Sequence[int], first: int) -> None:
        """Through where the result goes, or is staged, for a moment: the final codes overwrite it."""
        views = self.place.pass_through(part, chosen, first)
        for i, block in enumerate(chosen[first:], first):
            by_channel = isinstance(step, ChannelDiagonal)
            if by_channel or i == first:
                matrix = self.steps.bring_rows(step) + (block * (self.a + 1) if by_channel else 0)
                self.emitter.load_weights(matrix, self.a + 1, has_bias=True)
            self.place.multiply(views, part, i, block, accumulate=False)

    def _slopes(self, step: SlopesByMatrix, part: Part, chosen: Sequence[int], first: int) -> None:
        """The values through where the result goes, or is staged; their positive parts through scratch."""
        views, rows, tile = self.place.pass_through(part, chosen, first), self.steps.bring_rows(step), self.a + 1
        base, count = first * part.vectors, part.vectors * (len(chosen) - first)
        self.emitter.load_weights(rows, 1, has_bias=True)
        self.emitter.matmul_zeroes(base, count, accumulate=True)
        self.emitter.from_accumulators(base, self.positive_base, count)
        self.emitter.load_weights(rows + 1, tile, has_bias=True)
        for i, block in enumerate(chosen[first:], first):
            self.place.multiply(views, part, i, block, accumulate=False)
        self.emitter.load_weights(rows + 1 + tile, tile, has_bias=True)
        self.emitter.matmul(self.positive_base, base, count, 0, 0, accumulate=True)

    def add_high(self, step: AddHigh, part: Part, chosen: Sequence[int]) -> None:
        """By way of where the result goes, or is staged: the high sums lie behind the others."""
        views = self.place.pass_through(part, chosen, 0, behind=part.vectors * len(chosen))
        self.weights.forget_array()
        self.emitter.load_weights(self.steps.bring_rows(scale_of(step)), self.a + 1, has_bias=True)
        for i, block in enumerate(chosen):
            self.place.multiply(views, part, i, block, accumulate=True)
