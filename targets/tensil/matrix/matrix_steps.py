"""Steps on accumulators without SIMD: by MatMuls, at a cycle a vector, where a SIMD step costs four."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import multiply_accumulate, saturate

__all__ = [
    "AddByMatrix",
    "AddWord",
    "ChannelAddWord",
    "ChannelDiagonal",
    "ChannelDiagonalAgain",
    "ChannelStep",
    "Diagonal",
    "DiagonalAgain",
    "MatrixStep",
    "SlopesByMatrix",
    "apply_matrix_steps",
]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AddWord:
    """accumulators = saturate(accumulators + word), by a MatMul of zeroes."""

    word: int

    def rows(self, array_size: int, one: int) -> Words:  # noqa: ARG002  # one signature for all steps
        """The bias row."""
        return np.full((1, array_size), self.word, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Diagonal:
    """accumulators = saturate(round(bias + accumulators * word / 2^p)), by way of local memory."""

    word: int
    bias: int

    def rows(self, array_size: int, one: int) -> Words:  # noqa: ARG002
        """The bias row and the diagonal matrix."""
        return _bias_and_diagonal(self.bias, self.word, array_size)


@dataclass(frozen=True, slots=True)
class DiagonalAgain:
    """accumulators = saturate(accumulators + saturate(round(bias + x * word / 2^p))).

    x is what the last Diagonal read: it still lies in local memory.
    """

    word: int
    bias: int

    def rows(self, array_size: int, one: int) -> Words:  # noqa: ARG002
        """The bias row and the diagonal matrix."""
        return _bias_and_diagonal(self.bias, self.word, array_size)


@dataclass(frozen=True, slots=True)
class AddByMatrix:
    """accumulators = saturate(accumulators + saturate(bias + the group's added tensor)).

    word  what multiplies the tensor, as in Diagonal; None for 1
    """

    bias: int
    word: int | None = None

    @property
    def moves(self) -> bool:
        """Whether a move adds the tensor: then no rows are needed."""
        return not self.bias and self.word is None

    def rows(self, array_size: int, one: int) -> Words:
        """The bias row and the diagonal matrix: `one` is the word of 1."""
        return _bias_and_diagonal(self.bias, one if self.word is None else self.word, array_size)


@dataclass(frozen=True, slots=True)
class ChannelAddWord:
    """`AddWord` with a word for each channel, and last, one for the lanes without a channel."""

    words: tuple[int, ...]

    def rows(self, array_size: int, one: int) -> Words:  # noqa: ARG002
        """The bias row of each channel block."""
        return _by_block(self.words, array_size)


@dataclass(frozen=True, slots=True)
class ChannelDiagonal:
    """`Diagonal` with a word and a bias for each channel, and last, those for the lanes without a channel."""

    words: tuple[int, ...]
    biases: tuple[int, ...]

    def rows(self, array_size: int, one: int) -> Words:  # noqa: ARG002
        """The bias row and the diagonal matrix of each channel block, one block after the other."""
        return _diagonals_by_block(self.biases, self.words, array_size)


@dataclass(frozen=True, slots=True)
class ChannelDiagonalAgain:
    """`DiagonalAgain` with a word and a bias for each channel, as `ChannelDiagonal` has: of what that one read."""

    words: tuple[int, ...]
    biases: tuple[int, ...]

    def rows(self, array_size: int, one: int) -> Words:  # noqa: ARG002
        """As those of a `ChannelDiagonal`."""
        return _diagonals_by_block(self.biases, self.words, array_size)


@dataclass(frozen=True, slots=True)
class SlopesByMatrix:
    """accumulators = round(x * below / 2^p) + round(max(x, 0) * (above - below) / 2^p).

    x goes to local memory; a bias row of the lowest word, which saturates, leaves max(x, 0) + lowest, which goes to
    local memory, too; then both come back through diagonal matrices. The first one's bias undoes the constant.
    """

    above: int
    below: int
    lowest: int

    def constant(self, one: int) -> int:
        """What the second product lacks: lowest * (above - below) / 2^p. Even, so that ties stay as they are."""
        return -self.lowest * (self.above - self.below) // one

    def rows(self, array_size: int, one: int) -> Words:
        """The bias row that saturates, then the bias row and the matrix of each product."""
        whole = _bias_and_diagonal(self.constant(one), self.below, array_size)
        positive = _bias_and_diagonal(0, self.above - self.below, array_size)
        return np.concatenate([np.full((1, array_size), self.lowest, dtype=np.int64), whole, positive])


ChannelStep: TypeAlias = ChannelAddWord | ChannelDiagonal | ChannelDiagonalAgain
MatrixStep: TypeAlias = AddWord | Diagonal | DiagonalAgain | AddByMatrix | SlopesByMatrix | ChannelStep


def _by_block(words: Sequence[int], array_size: int) -> Words:
    """[blocks, A]: a lane for each word but the last, which is in all lanes left."""
    *by_channel, idle = words
    missing = -len(by_channel) % array_size
    return np.array([*by_channel, *[idle] * missing], dtype=np.int64).reshape(-1, array_size)


def _diagonals_by_block(biases: Sequence[int], words: Sequence[int], array_size: int) -> Words:
    blocks = zip(_by_block(biases, array_size), _by_block(words, array_size), strict=True)
    return np.concatenate([np.concatenate([bias[None, :], np.diag(word)]) for bias, word in blocks])


def _bias_and_diagonal(bias: int, word: int, array_size: int) -> Words:
    row = np.full((1, array_size), bias, dtype=np.int64)
    return np.concatenate([row, np.eye(array_size, dtype=np.int64) * word])


def _added(step: AddByMatrix, addend: Words, data_type: DataType) -> Words:
    factor = np.full_like(addend, data_type.one if step.word is None else step.word)
    return saturate(multiply_accumulate(addend, factor, step.bias, data_type), data_type)[0]


def _multiplied(words: Words, word: int, bias: int, data_type: DataType) -> Words:
    return saturate(multiply_accumulate(words, np.full_like(words, word), bias, data_type), data_type)[0]


def apply_matrix_steps(
    steps: Sequence[MatrixStep],
    words: Words,
    data_type: DataType,
    addend: Words | None = None,
    read: Words | None = None,
) -> Words:
    """What the steps make of accumulator words; `addend` [..] are the words of the added tensor.

    words  any shape; [channels + 1, points] where a step has words for each channel
    read   what a Diagonal before these steps read
    """
    for step in steps:
        match step:
            case AddWord():
                words, _ = saturate(words + step.word, data_type)
            case Diagonal():
                read, words = words, _multiplied(words, step.word, step.bias, data_type)
            case DiagonalAgain():
                assert read is not None
                words, _ = saturate(words + _multiplied(read, step.word, step.bias, data_type), data_type)
            case AddByMatrix():
                assert addend is not None
                words, _ = saturate(words + _added(step, addend, data_type), data_type)
            case SlopesByMatrix():
                positive, _ = saturate(words + step.lowest, data_type)
                below, above = (np.full_like(words, word) for word in (step.below, step.above - step.below))
                bias = np.full_like(words, step.constant(data_type.one))
                words, _ = saturate(multiply_accumulate(words, below, bias, data_type), data_type)
                added, _ = saturate(multiply_accumulate(positive, above, np.zeros_like(words), data_type), data_type)
                words, _ = saturate(words + added, data_type)
            case ChannelAddWord():
                words, _ = saturate(words + _column(step.words), data_type)
            case ChannelDiagonal():
                read, biases = words, _column(step.biases)
                words, _ = saturate(multiply_accumulate(words, _column(step.words), biases, data_type), data_type)
            case ChannelDiagonalAgain():
                assert read is not None
                biases = _column(step.biases)
                product, _ = saturate(multiply_accumulate(read, _column(step.words), biases, data_type), data_type)
                words, _ = saturate(words + product, data_type)
    return words


def _column(words: Sequence[int]) -> Words:
    return np.array(words, dtype=np.int64)[:, None]
