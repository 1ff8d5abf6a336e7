"""The functions that compute dot products: one for the pixels of a tile, and one that calls it for all tiles."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.targets.c.kernel_tasks import Dot
from pefslc.targets.c.part_loops import Loops
from pefslc.targets.c.prototypes import Parameter
from pefslc.targets.c.steps import DotPart, DotStep
from pefslc.targets.c.taps import Gather
from pefslc.targets.c.tiles import Chunk
from pefslc.targets.c.weight_orders import ROWS

__all__ = ["DotLoops", "KernelCall", "Tile"]

_NARROW = 64  # taps: two vectors of 256 bits
_ONLY_OF_LOOPS = ("x", "copy", "top", "left", "begin", "end")


@dataclass(frozen=True, slots=True)
class KernelCall:
    """A call of a kernel in a tile's function, or several for the outputs `o` = first, first + step, ... before `end`.

    first, end, step  outputs, counted from the tile's first one
    text              the C statement, for all pixels of the tile
    """

    first: int
    end: int
    step: int
    text: str

    @property
    def is_loop(self) -> bool:
        return self.end - self.first > self.step


@dataclass(frozen=True, slots=True, eq=False)
class DotLoops(Loops[DotStep, DotPart]):
    """The loops of one part, or of all parts of one form."""

    @property
    def tile_parameters(self) -> list[Parameter]:
        """Of the function that computes the pixels of one tile: what the kernels and the stages after them need."""
        return [each for each in self.parameters if each.name not in _ONLY_OF_LOOPS]

    @property
    def tiles(self) -> list[Tile]:
        """One function for all outputs, or one for each kind of pass over the pixels."""
        step, part, name = self.step, self.part, f"{self.name}_tile"
        if not part.passes:
            one_call = step.order.biased and [chunk.calls for chunk in part.chunks] == [1]
            return [Tile(self, name, part.chunks, 0, step.outputs, step.outputs if one_call else step.rows)]
        found: list[Tile] = []

        def add(chunks: tuple[Chunk, ...], first: int, outputs: int, stride: int, calls: int) -> None:
            found.append(Tile(self, f"{name}{len(found)}", chunks, first, outputs, stride, calls))

        for each in part.unpacked:
            add(each.chunks, each.first, min(each.outputs, step.outputs - each.first), each.outputs, each.calls)
        for chunk in () if part.unpacked else part.chunks:
            one = (Chunk(0, 1, chunk.blocks, chunk.step),)
            whole = (min(chunk.end, step.outputs) - chunk.first) // chunk.step
            if whole:
                add(one, chunk.first, chunk.step, chunk.step, whole)
            if whole < chunk.calls:
                first = chunk.first + whole * chunk.step
                add(one, first, step.outputs - first, chunk.step, 1)
        return found

    @property
    def has_passes(self) -> bool:
        """Whether one of these functions is called for several outputs `first`."""
        return any(tile.moves for tile in self.tiles)

    @property
    def first_column(self) -> str:
        """The C expression of the first pixel that is computed, where pixels are counted through."""
        if self.part.run:
            return f"tile * {self.part.pixels}"
        return f"begin * {self.part.pixels}" if self.is_alone else "0"

    @property
    def end_column(self) -> str:
        """The C expression of a pixel after the first one of the last tile."""
        if self.part.run:
            return "last_column"
        return f"end * {self.part.pixels}" if self.is_alone else str(self.part.line)

    @property
    def first_pixel(self) -> str:
        """The C expression of a tile's first pixel: the last tile of a line begins so that it is whole."""
        last = self.part.line - self.part.pixels
        return f"column < {last} ? column : {last}" if self.part.line % self.part.pixels else "column"

    @property
    def share(self) -> int:
        """Taps that an instruction takes of each pixel, where the order says how many at most; else 0."""
        order, taps = self.step.order, self.part.view.taps
        return taps // order.shares(taps) if order.most else 0

    @property
    def fills_copy(self) -> bool:
        """Whether a tile's taps are gathered before its call, rather than those of a whole image, or none."""
        return self.part.gather in (Gather.PATCH, Gather.STRIP, Gather.ROWS)

    @property
    def is_of_one_row(self) -> bool:
        """Whether the pixels of a tile lie in one row of the result."""
        return self.grid[1] % self.part.pixels == 0

    def image_of(self, pixel: str) -> str:
        """The C expression of the image that the window of a pixel is in."""
        rows, columns = self.grid
        _, channels, height, width = self.step.images
        return f"x + {pixel} / {rows * columns} * {height * width * channels}"

    def row_of(self, pixel: str) -> str:
        """The C expression of the row where a pixel's window begins."""
        assert self.window is not None
        rows, columns = self.grid
        return f"{pixel} / {columns} % {rows} * {self.window.strides[0]} - {self.top}"

    def column_of(self, pixel: str) -> str:
        """The C expression of the column where a pixel's window begins."""
        assert self.window is not None
        return f"{pixel} % {self.grid[1]} * {self.window.strides[1]} - {self.left}"

    @property
    def taps_there(self) -> str:
        """The C expression of the taps of `pixel` that lie in the source as kernels read them."""
        place = f"x + pixel * {self.part.view.pixel}"
        same = self.step.taps == self.step.source.type
        return place if same else f"(const {self.step.taps} *)({place})"


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """The function that computes the pixels of one tile, for some outputs.

    chunks          the calls of kernels
    first, outputs  that it computes: all of them; or as many as one call does, from `first` on, in `calls` calls
    stride          sums of a pixel
    """

    loops: DotLoops
    name: str
    chunks: tuple[Chunk, ...]
    first: int
    outputs: int
    stride: int
    calls: int = 1

    @property
    def moves(self) -> bool:
        """Whether it is called for several outputs `first`, which it is told."""
        return self.calls > 1

    @property
    def start(self) -> str:
        """The C expression of the first output that a call computes."""
        return "first" if self.moves else str(self.first)

    @property
    def end(self) -> str:
        """The C expression of the output after the last one."""
        return f"first + {self.outputs}" if self.moves else str(self.first + self.outputs)

    @property
    def has_output_loop(self) -> bool:
        """Whether a kernel is called for several outputs one after the other."""
        return any(chunk.calls > 1 for chunk in self.chunks)

    @property
    def has_pixel_loop(self) -> bool:
        """Whether a kernel is called for several pixels one after the other."""
        return self.loops.part.apiece < self.loops.part.pixels

    @property
    def adds_up(self) -> bool:
        """Whether compilers make vectors along its rows of taps, and then add those up."""
        return self.loops.step.order == ROWS and self.loops.part.view.padded >= _NARROW

    @property
    def is_flat(self) -> bool:
        """Whether its sums and results lie in one order, without gaps."""
        step = self.loops.step
        return not step.is_phased and self.stride == step.outputs

    @property
    def sum_index(self) -> str:
        """The C expression of where output c's sum is among those of a pixel."""
        step = self.loops.step
        per_group = step.outputs // step.groups
        if step.groups > 1 and per_group != step.padded_outputs:
            return f"c / {per_group} * {step.padded_outputs} + c % {per_group}"
        return _minus("c", self.start)

    def kernel_calls(self, bias: str) -> list[KernelCall]:
        """In order. bias: the C expression of the step's, for kernels whose sums start from it."""
        return [
            KernelCall(c.first, c.end, c.step, self._kernel_call(c, "o" if c.calls > 1 else str(c.first), bias))
            for c in self.chunks
        ]

    def _kernel_call(self, chunk: Chunk, o: str, bias: str) -> str:
        step, view = self.loops.step, self.loops.part.view
        output = _plus(self.start, o)
        part = self.loops.part
        taps = f"taps + o / {step.padded_outputs} * {view.padded}" if step.groups > 1 else "taps"
        sums = _plus("sums", o)
        if self.has_pixel_loop:
            taps, sums = f"{taps} + p * {view.pixel}", f"{sums} + p * {self.stride}"
        rows = _plus("rows", _times(o, view.padded)) if step.packed else self._weights(output)
        arguments = [
            taps, view.pixel, view.segments, view.segment, view.taps, rows,
            *([_plus(bias, output)] if step.starts_biased else []), sums, self.stride,
        ]  # fmt: skip
        call = f"{Dot.called(step, part, chunk.blocks).name}({', '.join(map(str, arguments))});"
        if self.has_pixel_loop:
            return f"for (p = 0; p < {part.pixels}; p += {part.apiece}) {{\n    {call}\n}}"
        return call

    def _weights(self, output: str) -> str:
        return _plus(self.loops.weight, _times(output, self.loops.part.view.padded))

    @property
    def unpacking(self) -> str:
        """The C statement that unpacks the weights of a call's outputs; empty where they are not packed."""
        step, padded = self.loops.step, self.loops.part.view.padded
        if not step.packed:
            return ""
        # Whole bytes are those of all outputs before it, not those of each.
        before = "0" if self.start == "0" else f"{self.start} * {padded} / 8 * {step.packed}"
        return f"unpack_{step.packed}({_plus(self.loops.weight, before)}, {self.stride * padded}, rows);"

    def call(self, taps: str, pixel: str) -> str:
        """The C statement that computes the pixels from `pixel` on, whose taps are there."""
        given = (*(each.name for each in self.loops.tile_parameters), taps, pixel, *["first"] * self.moves)
        return f"{self.name}({', '.join(given)});"


def _plus(*terms: str) -> str:
    return " + ".join(term for term in terms if term != "0") or "0"


def _minus(term: str, other: str) -> str:
    return term if other == "0" else f"{term} - {other}"


def _times(count: str, factor: int) -> str:
    """`count` is a number, a name, or a sum of them."""
    if count == "0":
        return count
    return f"({count}) * {factor}" if "+" in count else f"{count} * {factor}"
