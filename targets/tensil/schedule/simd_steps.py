"""Raw steps as SIMD operations: which, with which constants, on which accumulators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.machine.instructions import SimdOperation
from pefslc.targets.tensil.schedule.emitter import SimdLater
from pefslc.targets.tensil.words.steps import (
    Accumulate,
    AddHigh,
    AddOffset,
    ChannelAdd,
    ChannelMultiply,
    LeakyRelu,
    Maximum,
    Minimum,
    Multiply,
    RawStep,
    SimdStep,
    TwoSlopes,
    block_words,
)

__all__ = ["SPARE_VECTORS", "needs_spare", "operations_of", "simd_operations", "simd_words"]

# Between two loads of the SIMD register, where a step needs two constants.
SPARE_VECTORS = 64

_OPERATION = {
    Multiply: SimdOperation.MULTIPLY,
    Maximum: SimdOperation.MAX,
    Minimum: SimdOperation.MIN,
    AddOffset: SimdOperation.ADD,
    ChannelMultiply: SimdOperation.MULTIPLY,
    ChannelAdd: SimdOperation.ADD,
}


def simd_words(step: RawStep, data_type: DataType) -> tuple[int, ...]:
    """The constants that the step needs in every lane."""
    match step:
        case Multiply() | Maximum() | Minimum() | AddOffset():
            return (step.word,)
        case LeakyRelu():
            return 0, step.complement(data_type)
        case TwoSlopes(above, below):
            return 0, below, above - below
        case ChannelMultiply() | ChannelAdd() | Accumulate() | AddHigh():
            return ()


def needs_spare(step: RawStep) -> bool:
    """Whether the step needs accumulators beside those that it changes."""
    return isinstance(step, LeakyRelu | TwoSlopes)


def operations_of(steps: Sequence[RawStep]) -> int:
    """How many SIMD operations a vector takes, those that add a stored tensor not counted."""
    return sum(3 if isinstance(s, TwoSlopes) else 2 if isinstance(s, LeakyRelu) else 1 for s in steps)


def simd_operations(
    step: SimdStep, first: int, vectors: int, blocks: Sequence[int], spare: Sequence[int], machine: Architecture
) -> Iterator[SimdLater]:
    """The step on so many vectors of each output block, which lie one after the other from accumulator `first` on."""
    addresses = range(first, first + vectors * len(blocks))
    match step:
        case Multiply() | Maximum() | Minimum() | AddOffset():
            yield from (SimdLater(_OPERATION[type(step)], step.word, a, a) for a in addresses)
        case LeakyRelu():
            factor = step.complement(machine.data_type)
            for start in range(0, len(addresses), len(spare)):
                part = addresses[start : start + len(spare)]
                yield from (SimdLater(SimdOperation.MIN, 0, a, s) for a, s in zip(part, spare, strict=False))
                for a, s in zip(part, spare, strict=False):
                    yield SimdLater(SimdOperation.MULTIPLY, factor, s, a, accumulate=True)
        case TwoSlopes(above, below):
            for start in range(0, len(addresses), len(spare)):
                part = addresses[start : start + len(spare)]
                yield from (SimdLater(SimdOperation.MAX, 0, a, s) for a, s in zip(part, spare, strict=False))
                yield from (SimdLater(SimdOperation.MULTIPLY, below, a, a) for a in part)
                for a, s in zip(part, spare, strict=False):
                    yield SimdLater(SimdOperation.MULTIPLY, above - below, s, a, accumulate=True)
        case ChannelMultiply() | ChannelAdd():
            for i, block in enumerate(blocks):
                words = block_words(step, block, machine.array_size)
                for a in addresses[i * vectors : (i + 1) * vectors]:
                    yield SimdLater(_OPERATION[type(step)], words, a, a)
