"""ArgMax of an output's codes, as a C function beside the network's: in integers, exactly.

Keys code * factor[c] + addend[c] are in the order of the values (`OutputFunction.keys`). Where they do not fit 64 bits,
as behind scales per channel, they have several words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import element_count
from pefslc.ir.interface import GraphOutput
from pefslc.ir.output_function import OutputFunctionKind
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.affine_shift import INT64_HEADROOM
from pefslc.numeric.wide import word_bits_of
from pefslc.targets.c.prototypes import Parameter, Prototype
from pefslc.targets.c.stages import ConstantArray
from pefslc.targets.c.storage import INT64, CType, Tensor

__all__ = ["ArgMax", "arg_max_of"]

Codes = NDArray[np.int64]

_MOST_WORDS = 8


@dataclass(frozen=True, slots=True, eq=False)
class ArgMax:
    """The index of the largest of `size` values; of them `inner` lie side by side, and `outer` such blocks.

    name       of the C function
    argument   of the network's C function: the output's name there
    onnx_name  of the output
    type       of the output's codes
    factors    [words, size]; the lowest word first, all but the highest of `word_bits` bits. None: the codes themselves
    last       whether the last of equals is taken
    text       what it does
    """

    name: str
    argument: str
    onnx_name: str
    type: CType
    outer: int
    size: int
    inner: int
    factors: ConstantArray | None
    addends: ConstantArray | None
    words: int
    word_bits: int
    last: bool
    text: str

    @property
    def constants(self) -> tuple[ConstantArray, ...]:
        return tuple(array for array in (self.factors, self.addends) if array is not None)

    @property
    def results(self) -> int:
        """How many indices."""
        return self.outer * self.inner

    @property
    def prototype(self) -> Prototype:
        return Prototype(
            "void ", self.name, (Parameter(f"const {self.type} *", "codes"), Parameter("int32_t *", "index"))
        )


def arg_max_of(output: GraphOutput, tensor: Tensor, argument: str, prefix: str) -> ArgMax | None:
    """The function of an output that ends with ArgMax; None of others, and where it is left to the host: where channels
    of both signs stand beside each other on another axis than that of the ArgMax.
    """
    function = output.function
    if function is None or function.kind is not OutputFunctionKind.ARG_MAX:
        return None
    assert output.map is not None
    shape, axis = tensor.shape, function.axis
    factors, addends = function.keys(output.map.scale, output.map.offset)
    if axis != 1 and len(set(factors)) > 1:
        return None
    size, factors = shape[axis], factors if axis == 1 else factors[:1]
    factors, addends = (part * size if len(part) == 1 else part for part in (factors, addends))
    name, words, bits = f"{prefix}_{argument}_arg_max", 1, word_bits_of(tensor.low, tensor.high)
    factor_array = addend_array = None
    if any(f != 1 for f in factors) or len(set(addends)) > 1:
        found = _words_of(factors, addends, tensor, bits)
        if found is None:
            return None
        words = len(found[0])
        factor_array, addend_array = (
            ConstantArray(f"{name}_{what}", INT64, part.reshape(-1), f"ArgMax: {what}s by word and channel")
            for what, part in zip(("factor", "addend"), found, strict=True)
        )
    return ArgMax(
        name, argument, output.name, tensor.type, element_count(shape[:axis]), size, element_count(shape[axis + 1 :]),
        factor_array, addend_array, words, bits, function.last, str(function),
    )  # fmt: skip


def _words_of(factors: Sequence[int], addends: Sequence[int], tensor: Tensor, bits: int) -> tuple[Codes, Codes] | None:
    """(factors, addends) [words, channels], in as few words as hold every key; None where too many would be needed."""
    for words in range(1, _MOST_WORDS + 1):
        above, mask = bits * (words - 1), (1 << bits) - 1
        formed = [
            v for f, a in zip(factors, addends, strict=True) for code in (tensor.low, tensor.high)
            for v in (code * (f >> above), code * (f >> above) + (a >> above), a >> above)
        ]  # fmt: skip
        carried = (1 << (INT64_HEADROOM - bits)) + 1 if words > 1 else 0
        if bits_for_range(min(formed) - carried, max(formed) + carried) <= INT64_HEADROOM:
            parts = ([[v >> bits * i & mask for v in part] for i in range(words - 1)] for part in (factors, addends))
            tops = ([v >> above for v in part] for part in (factors, addends))
            f, a = (np.array([*low, top], dtype=np.int64) for low, top in zip(parts, tops, strict=True))
            return f, a
    return None
