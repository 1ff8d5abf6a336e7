"""Requantization without SIMD: constants added by MatMuls of zeroes, clips by saturation on purpose.

A SIMD step costs 4 cycles a vector, a MatMul one. With lo, hi the clip and s the shift, in this order:

    add -(lo * 2^s + 32768) to the accumulators     what lay below lo saturates, so it is lo now
    move to local memory, multiply by the diagonal matrix 2^(p-s), bias (lo * 2^s + 32768) / 2^s
                                                    the shift, rounded half to even, with the constant undone
    add 32767 - hi, then subtract it again          what lay above hi saturates, so it is hi now

(numbers for 16 bits; without a shift, the same constants bring the words to the rails and back). Each takes a cycle a
vector and some; the first one takes none where the sums' own biases carry its constant (`weights.with_floor`), and the
third none where the diagonal's bias has room for it. Which way is shorter is for the caller to say. The result is
compared with the SIMD steps for every word that can occur: a certificate, not an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.architecture import DataType
from pefslc.targets.tensil.arithmetic import multiply_accumulate, saturate, simd
from pefslc.targets.tensil.instructions import SimdOperation
from pefslc.targets.tensil.raw_steps import Accumulate, Maximum, Minimum, Multiply, RawStep

__all__ = ["AddWord", "Diagonal", "MatrixStep", "matrix_steps"]

Words = NDArray[np.int64]

_LARGEST_CHECK = 1 << 17  # words that are tried one by one; wider data types keep their SIMD steps


@dataclass(frozen=True, slots=True)
class AddWord:
    """accumulators = saturate(accumulators + word)."""

    word: int

    def rows(self, array_size: int) -> Words:
        """The bias row that a MatMul of zeroes applies."""
        return np.full((1, array_size), self.word, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Diagonal:
    """accumulators = saturate(round((accumulators * word + bias * 2^p) / 2^p)), by way of local memory."""

    word: int
    bias: int

    def rows(self, array_size: int) -> Words:
        """The bias row and the diagonal matrix."""
        bias = np.full((1, array_size), self.bias, dtype=np.int64)
        return np.concatenate([bias, np.eye(array_size, dtype=np.int64) * self.word])


MatrixStep: TypeAlias = AddWord | Diagonal


@lru_cache(maxsize=256)
def matrix_steps(steps: tuple[RawStep, ...], low: int, high: int, data_type: DataType) -> tuple[MatrixStep, ...] | None:
    """The same function as the SIMD `steps` on words in [low, high], certified word by word; None if there is none."""
    if high - low >= _LARGEST_CHECK:
        return None
    first = steps[0] if steps else None
    clips = steps[1:] if isinstance(first, Multiply) else steps
    if any(isinstance(step, Multiply | Accumulate) for step in clips):
        return None
    found = _shift_and_clips(first, clips, data_type) if isinstance(first, Multiply) else _clips(clips, data_type)
    plan = tuple(found)
    if not plan or not all(_representable(s, data_type) for s in plan):
        return None
    words = np.arange(min(low, 0), max(high, 0) + 1, dtype=np.int64)  # 0: what lanes without a channel hold
    return plan if np.array_equal(_by_matrix(plan, words, data_type), _by_simd(steps, words, data_type)) else None


def _shift_and_clips(multiply: Multiply, clips: Sequence[RawStep], data_type: DataType) -> list[MatrixStep]:
    shift = data_type.binary_point - multiply.word.bit_length() + 1
    if shift < 1 or multiply.word != 1 << (data_type.binary_point - shift):
        return []
    found: list[MatrixStep] = []
    undone = rail = 0
    for clip in clips:
        if isinstance(clip, Maximum):
            undone = (clip.word << shift) - data_type.min_code
            found.append(AddWord(-undone))
        elif isinstance(clip, Minimum):
            rail = data_type.max_code - clip.word
    together = (undone >> shift) + rail <= data_type.max_code
    found.append(Diagonal(multiply.word, (undone >> shift) + (rail if together else 0)))
    return found + [AddWord(word) for word in ((-rail,) if together else (rail, -rail)) if rail]


def _clips(clips: Sequence[RawStep], data_type: DataType) -> list[MatrixStep]:
    """Down to the lower rail, up to the upper one, and back; a way longer than a word goes in two steps."""
    found: list[MatrixStep] = []
    back = 0
    for clip in clips:
        if isinstance(clip, Maximum):
            undone = clip.word - data_type.min_code
            found.append(AddWord(-undone))
            back += undone
        elif isinstance(clip, Minimum):
            room = data_type.max_code - clip.word
            found += _split(back + room, data_type)
            back = -room
    return found + _split(back, data_type)


def _split(word: int, data_type: DataType) -> list[MatrixStep]:
    first = min(max(word, data_type.min_code), data_type.max_code)
    return [AddWord(part) for part in (first, word - first) if part]


def _representable(step: MatrixStep, data_type: DataType) -> bool:
    values = (step.word,) if isinstance(step, AddWord) else (step.word, step.bias)
    return all(data_type.min_code <= v <= data_type.max_code for v in values)


def _by_simd(steps: Sequence[RawStep], words: Words, data_type: DataType) -> Words:
    for step in steps:
        match step:
            case Multiply():
                words, _ = simd(SimdOperation.MULTIPLY, words, _like(words, step.word), data_type)
            case Maximum():
                words, _ = simd(SimdOperation.MAX, words, _like(words, step.word), data_type)
            case Minimum():
                words, _ = simd(SimdOperation.MIN, words, _like(words, step.word), data_type)
    return words


def _by_matrix(steps: Sequence[MatrixStep], words: Words, data_type: DataType) -> Words:
    for step in steps:
        if isinstance(step, AddWord):
            words, _ = saturate(words + step.word, data_type)
        else:
            words, _ = saturate(multiply_accumulate(words, _like(words, step.word), step.bias, data_type), data_type)
    return words


def _like(words: Words, word: int) -> Words:
    return np.full_like(words, word)
