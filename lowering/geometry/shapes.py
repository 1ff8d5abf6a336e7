"""Shape arithmetic of windows (convolution, pooling) and of broadcasting. Nothing else computes a shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

__all__ = ["Shape", "Window", "conv_shape", "element_count", "gate_shape", "pool_shape"]

Shape = tuple[int, ...]


def element_count(shape: Shape) -> int:
    """Number of elements, as a Python integer: declared shapes may overflow int64."""
    count = 1
    for size in shape:
        count *= size
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A 2-D sliding window: ONNX's kernel_shape, strides, dilations and pads (top, left, bottom, right).

    A negative pad crops. `input_dilations` tell how far apart the input's pixels are in the image that the window
    slides over, with zeros between them: those of a transposed convolution are its strides (XLA's base dilation).
    Along an axis on which the input is dilated, a window has a stride of 1.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    input_dilations: tuple[int, int] = (1, 1)

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns from the first to the last tap."""
        (kh, kw), (dh, dw) = self.kernel, self.dilations
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def is_padded(self) -> bool:
        return any(self.pads)

    @property
    def dilates_input(self) -> bool:
        """Whether zeros stand between the pixels of the input."""
        return self.input_dilations != (1, 1)

    def dilated(self, height: int, width: int) -> tuple[int, int]:
        """Size of the input with zeros between its pixels."""
        return (height - 1) * self.input_dilations[0] + 1, (width - 1) * self.input_dilations[1] + 1

    def slides_over(self, height: int, width: int) -> tuple[int, int]:
        """Size of the whole image that the window slides over, before negative pads crop it."""
        (rows, columns), (top, left, bottom, right) = self.dilated(height, width), self.pads
        return rows + max(top, 0) + max(bottom, 0), columns + max(left, 0) + max(right, 0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """floor((size + pads - extent) / stride) + 1 (ONNX Conv-11); may be 0 or less when the window does not fit."""
        height, width = self.dilated(height, width)
        top, left, bottom, right = self.pads
        rows = (height + top + bottom - self.extent[0]) // self.strides[0] + 1
        columns = (width + left + right - self.extent[1]) // self.strides[1] + 1
        return rows, columns

    def always_sees(self, height: int, width: int) -> bool:
        """Whether every window has a tap inside the input: rows and columns decide it one by one."""
        top, left, _, _ = self.pads
        sizes = zip((height, width), self.output_size(height, width), (top, left), (0, 1), strict=True)
        return all(
            self._sees(position * self.strides[axis] - pad, size, axis)
            for size, count, pad, axis in sizes
            for position in self._critical_positions(count, pad, axis)
        )

    def _critical_positions(self, count: int, pad: int, axis: int) -> Iterator[int]:
        """Where a window that sees nothing stands, if there is one: sizes in a file may be beyond any loop over all.

        Of those that start inside, the last; of those before the input, the first of each remainder by the dilation.
        """
        stride, dilation = self.strides[axis], self.dilations[axis]
        outside = min(count, -(-pad // stride))
        yield from range(min(outside, dilation // gcd(stride, dilation)))
        if count > outside:
            yield count - 1

    def _sees(self, start: int, size: int, axis: int) -> bool:
        """Whether one of the taps start, start + dilation, ... lies in [0, size)."""
        first = start if start >= 0 else start % self.dilations[axis]  # the first tap at or after 0
        return first < size and first < start + self.extent[axis]

    def inside(self, height: int, width: int) -> int:
        """Pairs of an output position and a tap that lies in the input and not in its padding."""
        output = self.output_size(height, width)
        taps = ((row, column) for row in range(self.kernel[0]) for column in range(self.kernel[1]))
        return sum(self.reach(tap, (height, width), output) for tap in taps)

    def reach(self, tap: tuple[int, int], size: tuple[int, int], output: tuple[int, int]) -> int:
        """Positions of the output (rows, columns) whose tap lies on a pixel of an input of this size."""
        rows, columns = self.seen(tap, size, output)
        return len(rows) * len(columns)

    def seen(self, tap: tuple[int, int], size: tuple[int, int], output: tuple[int, int]) -> tuple[range, range]:
        """The rows and the columns of the output (of that size) whose tap lies on a pixel of the input (of this size).

        Neighbours among them are input_dilations apart, and see pixels that are strides apart.
        """
        offsets = self.tap_offset(*tap)
        rows, columns = (self._seen(axis, offsets[axis], size[axis], output[axis]) for axis in (0, 1))
        return rows, columns

    def _seen(self, axis: int, offset: int, size: int, positions: int) -> range:
        stride, apart = self.strides[axis], self.input_dilations[axis]
        first = max(-(offset // stride), 0)
        first += -(first + offset) % apart  # apart is 1, or the stride
        last = min(((size - 1) * apart - offset) // stride, positions - 1)
        return range(first, max(last + 1, first), apart)

    def pixel(self, tap: tuple[int, int], row: int, column: int) -> tuple[int, int]:
        """The pixel of the input on which the tap lies at a position of the output that sees one."""
        (sy, sx), (uy, ux), (dy, dx) = self.strides, self.input_dilations, self.tap_offset(*tap)
        return (row * sy + dy) // uy, (column * sx + dx) // ux

    def taps_inside(
        self, size: Shape, margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    ) -> tuple[list[int], list[int]]:
        """Of each row of windows over an input of this size, the rows of taps inside; and the same of columns.

        margins  top, left, bottom, right: how much of the padding counts as inside
        """
        found: list[list[int]] = []
        for axis, positions in enumerate(self.output_size(*size)):
            low, high = -margins[axis], size[axis] + margins[axis + 2]
            starts = (position * self.strides[axis] - self.pads[axis] for position in range(positions))
            found.append([self._taps_between(start, low, high, axis) for start in starts])
        return found[0], found[1]

    def _taps_between(self, start: int, low: int, high: int, axis: int) -> int:
        """How many of the taps start, start + dilation, ... lie in [low, high)."""
        dilation = self.dilations[axis]
        first, last = -((start - low) // dilation), (high - 1 - start) // dilation
        return max(min(last, self.kernel[axis] - 1) - max(first, 0) + 1, 0)

    def with_ceiled_output(self, height: int, width: int) -> Window:
        """ONNX's ceil_mode: as much more padding below and on the right as the windows need that begin inside.

        Or in the padding before it (torch, and ONNX since opset 19).
        """
        pads = list(self.pads)
        for axis, size in enumerate((height, width)):
            end, stride, extent = size + pads[axis], self.strides[axis], self.extent[axis]
            count = -(-(end + pads[axis + 2] - extent) // stride) + 1
            count -= (count - 1) * stride >= end
            pads[axis + 2] = max((count - 1) * stride + extent - end, 0)
        return replace(self, pads=(pads[0], pads[1], pads[2], pads[3]))

    def tap_offset(self, row: int, column: int) -> tuple[int, int]:
        """Position of tap (row, column) in the dilated input relative to output position * stride."""
        return row * self.dilations[0] - self.pads[0], column * self.dilations[1] - self.pads[1]


def conv_shape(input_shape: Shape, weight_shape: Shape, window: Window) -> Shape:
    """[N, C_out, H', W'] of a convolution."""
    n, _, height, width = input_shape
    return (n, weight_shape[0], *window.output_size(height, width))


def pool_shape(input_shape: Shape, window: Window) -> Shape:
    """[N, C, H', W'] of a pool."""
    n, channels, height, width = input_shape
    return (n, channels, *window.output_size(height, width))


def gate_shape(shape: Shape) -> Shape:
    """The shape of one number for each image and channel of `shape`: [N, C, 1, 1] of [N, C, H, W]."""
    return (*shape[:2], *(1 for _ in shape[2:]))
