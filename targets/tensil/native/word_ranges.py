"""What words reach in native arithmetic, whatever the inputs are, and which sums may saturate: intervals of words.

The words of the weights and their rounding are known by then, so nothing is left to grant but the ends of the inputs'
formats. Every product counts with its worst end, with ties as they may fall (`native_audit` has the MAC's law), and
with 0, for windows reach over the image and partial sums are of some products only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import round_ratio
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.steps import Accumulate, Multiply, RawStep, apply_steps
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["may_saturate"]

Ends = NDArray[np.int64]  # [channels, 2]: the lowest and the highest word of each


def may_saturate(program: WordProgram, data_type: DataType) -> Iterator[str]:
    """The tensors whose words, or the sums that they are made of, may go beyond the data type for some input that its
    format holds. `program` as it was placed, before its words are rewritten.
    """
    reached: dict[str, Ends] = {}
    for port in program.inputs:
        tensor = program.tensors[port.tensor]
        codes = np.array([tensor.stored.codes], dtype=np.int64) << max(tensor.exponent, 0)
        ends = round_ratio(codes, tensor.finer << max(-tensor.exponent, 0))
        if _beyond(ends, data_type):
            yield port.tensor
        ends = saturate(ends, data_type.min_code, data_type.max_code)
        reached[port.tensor] = np.tile(ends, (tensor.layout.channels, 1))
    for group in program.groups:
        reached[group.result], saturates = _reached(group, reached, data_type)
        if saturates:
            yield group.result


def _reached(group: WordGroup, reached: dict[str, Ends], data_type: DataType) -> tuple[Ends, bool]:
    """The ends of what the group stores; whether they, or what comes before them, may saturate."""
    if isinstance(group.head, SumHead):
        bias = np.stack([group.bias, group.bias], axis=1)
        products = sum((_products(term, reached[term.tensor], data_type) for term in group.terms), np.zeros_like(bias))
        # The bias may come last.
        partial = np.stack([np.minimum(group.bias, 0), np.maximum(group.bias, 0)], axis=1) + products
        saturates = _beyond(partial, data_type)
        ends = saturate(bias + products, data_type.min_code, data_type.max_code)
    else:
        ends, saturates = _of_channels(reached[group.head.tensor], group.layout.channels), False
    for step in group.steps:
        whole = _stepped(step, ends, reached, data_type)
        saturates |= _beyond(whole, data_type)
        ends = saturate(whole, data_type.min_code, data_type.max_code)
    return ends, saturates


def _products(term: WordTerm, ends: Ends, data_type: DataType) -> Ends:
    """The lowest and the highest sum of some of the term's products, by output."""
    weight, half = term.weight, 1 << (data_type.binary_point - 1)
    ends = _of_channels(ends, weight.shape[1])
    both = weight[..., None] * ends[None, :, None, None, :]
    lowest = (both.min(axis=-1) + (half - 1)) >> data_type.binary_point
    highest = (both.max(axis=-1) + half) >> data_type.binary_point
    sums = np.minimum(lowest, 0).sum(axis=(1, 2, 3)), np.maximum(highest, 0).sum(axis=(1, 2, 3))
    return np.stack(sums, axis=1)


def _stepped(step: RawStep, ends: Ends, reached: dict[str, Ends], data_type: DataType) -> Ends:
    """After a step, which does not saturate here. Every step is monotone."""
    match step:
        case Accumulate(tensor):
            return ends + _of_channels(reached[tensor], len(ends))
        case Multiply(word):
            return np.sort(round_ratio(ends * word, data_type.one), axis=1)
        case _:
            return apply_steps([step], ends, data_type)


def _of_channels(ends: Ends, channels: int) -> Ends:
    """For each of so many channels; those of all where they are others than the tensor was made of."""
    if len(ends) == channels:
        return ends
    return np.tile([[ends[:, 0].min(), ends[:, 1].max()]], (channels, 1))


def _beyond(ends: Ends, data_type: DataType) -> bool:
    return bool(ends.min() < data_type.min_code or ends.max() > data_type.max_code)
