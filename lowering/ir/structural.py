"""Operations that mean the same on values and on codes: they select and arrange elements, they compute none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pefslc.geometry.shapes import Window
from pefslc.ir.value import Op, Value

__all__ = ["Concat", "MaxPool", "Pad", "Reshape", "Slice", "Structural", "Transpose", "Upsample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Op):
    """Maximum over each window.

    input   [N, C, H, W]
    result  [N, C, H', W']; positions outside the input never win (ONNX MaxPool-12)
    """

    mnemonic: ClassVar[str] = "max_pool"
    input: Value
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Op):
    """The same elements in row-major order under the result's shape (ONNX Flatten, Reshape, Squeeze)."""

    mnemonic: ClassVar[str] = "reshape"
    input: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Op):
    """result.shape[i] = input.shape[permutation[i]]."""

    mnemonic: ClassVar[str] = "transpose"
    input: Value
    permutation: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Op):
    """The input with elements of value 0 around it: on codes, its zero point.

    before, after  how many along each axis; none along the batch (ONNX Pad-13, mode constant)
    """

    mnemonic: ClassVar[str] = "pad"
    input: Value
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def is_spatial(self) -> bool:
        """Whether it adds rows and columns to [N, C, H, W] only, as a window's pads do."""
        return len(self.before) == 4 and not any(self.before[:2] + self.after[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Op):
    """result[i, j...] = input[begins[0] + steps[0] * i, begins[1] + steps[1] * j...]: a part of the input.

    begins, steps  along each axis; a negative step goes backwards; the batch is whole: begin 0, step 1 (ONNX Slice-13,
                   Split-18, Gather-13 of a range)
    """

    mnemonic: ClassVar[str] = "slice"
    input: Value
    begins: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def ranges(self) -> tuple[range, ...]:
        """The indices taken along each axis."""
        axes = zip(self.begins, self.steps, self.result.type.shape, strict=True)
        return tuple(range(begin, begin + step * size, step) for begin, step, size in axes)

    @property
    def index(self) -> tuple[slice, ...]:
        """NumPy's index, which takes the batch whole, whatever its size."""
        taken = (slice(r.start, r.stop if r.stop >= 0 else None, r.step) for r in self.ranges[1:])
        return slice(None), *taken

    @property
    def is_whole(self) -> bool:
        """Whether it takes everything, in its order."""
        return self.input.type.shape == self.result.type.shape and all(step > 0 for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsample(Op):
    """result[n, c, i...] = input[n, c, i // factor...]: each pixel `factors` times along each axis.

    factors  1 along batch and channels (ONNX Resize-13 of mode nearest, by integers)
    """

    mnemonic: ClassVar[str] = "upsample"
    input: Value
    factors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Op):
    """The inputs side by side along `axis`.

    On codes, all inputs have one scale; along the channels, axis 1, each may have its own, and each channel keeps it.
    """

    mnemonic: ClassVar[str] = "concat"
    inputs: tuple[Value, ...]
    axis: int


Structural = MaxPool | Reshape | Transpose | Pad | Slice | Upsample | Concat
