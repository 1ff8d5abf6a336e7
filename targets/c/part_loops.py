"""The functions that compute a convolution's parts, as the templates ask for them.

An ordinary convolution is one function. One over a dilated input is a function for each form of its phases, which is
called for each phase with its weights, its pads and the place of its first result; most often all have one form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.c.kernels import Dot, depthwise_of
from pefslc.targets.c.steps import DepthwisePart, DepthwiseStep, DotPart, DotStep, Part
from pefslc.targets.c.taps import Gather
from pefslc.targets.c.tiles import Chunk

__all__ = ["Loops", "Tile", "convolution_loops", "part_calls"]


@dataclass(frozen=True, slots=True)
class Tile:
    """The function that computes the pixels of one tile, for some outputs.

    chunks  the calls of kernels
    first, outputs  that it computes: all of them; or as many as one call does, from `first` on, in `calls` calls
    stride  sums of a pixel
    """

    name: str
    chunks: tuple[Chunk, ...]
    first: int
    outputs: int
    stride: int
    calls: int = 1

    @property
    def has_output_loop(self) -> bool:
        """Whether a kernel is called for several outputs one after the other."""
        return any(chunk.calls > 1 for chunk in self.chunks)


@dataclass(frozen=True, slots=True, eq=False)
class Loops:
    """The loops of one part, or of all parts of one form.

    name        of their C function
    declared    its parameters
    is_alone    whether they are all loops of the step, rather than those of some parts that other functions call
    weight, top, left  C expressions: where the weights are, and the pads before the first row and column
    form              what the parts have in common
    """

    name: str
    declared: tuple[str, ...]
    is_alone: bool
    weight: str
    top: str
    left: str
    step: DotStep | DepthwiseStep
    part: Part
    form: object

    @property
    def parameters(self) -> str:
        return ", ".join(self.declared)

    @property
    def tile_parameters(self) -> str:
        """Of the function that computes the pixels of one tile: what the kernels and the stages after them need."""
        return ", ".join(self._of_tile)

    @property
    def tile_arguments(self) -> str:
        """With which the loops call it."""
        return ", ".join(map(_named, self._of_tile))

    @property
    def _of_tile(self) -> list[str]:
        return [each for each in self.declared if _named(each) not in ("x", "copy", "top", "left", "begin", "end")]

    @property
    def window(self) -> Window | None:
        return self.part.window

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the result that they compute."""
        return len(self.part.rows), len(self.part.columns)

    @property
    def has_whole_windows(self) -> bool:
        """Whether a window fits into the image, so that one may see no padding."""
        assert self.window is not None
        _, _, height, width = self.step.images if isinstance(self.step, DotStep) else self.step.source.shape
        rows, columns = self.window.extent
        return rows <= height and columns <= width

    @property
    def tiles(self) -> list[Tile]:
        """For all outputs, or one for each pass over the pixels."""
        step, part, name = self.step, self.part, f"{self.name}_tile"
        assert isinstance(step, DotStep)
        assert isinstance(part, DotPart)
        if not part.passes:
            one_call = step.order.biased and [chunk.calls for chunk in part.chunks] == [1]
            return [Tile(name, part.chunks, 0, step.outputs, step.outputs if one_call else step.rows)]
        if part.unpacked:
            return [
                Tile(
                    f"{name}{i}",
                    each.chunks,
                    each.first,
                    min(each.outputs, step.outputs - each.first),
                    each.outputs,
                    each.calls,
                )
                for i, each in enumerate(part.unpacked)
            ]
        found: list[Tile] = []
        for chunk in part.chunks:
            one = (Chunk(0, 1, chunk.blocks, chunk.step),)
            whole = (min(chunk.end, step.outputs) - chunk.first) // chunk.step
            if whole:
                found.append(Tile(f"{name}{len(found)}", one, chunk.first, chunk.step, chunk.step, whole))
            if whole < chunk.calls:
                first = chunk.first + whole * chunk.step
                found.append(Tile(f"{name}{len(found)}", one, first, step.outputs - first, chunk.step))
        return found

    def is_flat(self, tile: Tile) -> bool:
        """Whether a tile's sums and results lie in one order, without gaps."""
        assert isinstance(self.step, DotStep)
        return len(self.step.parts) == 1 and tile.stride == self.step.outputs

    @property
    def first_column(self) -> str:
        """The C expression of the first pixel that is computed, where pixels are counted through."""
        return f"begin * {self._dots.pixels}" if self.is_alone else "0"

    @property
    def end_column(self) -> str:
        """The C expression of a pixel after the first one of the last tile."""
        return f"end * {self._dots.pixels}" if self.is_alone else str(self._dots.line)

    @property
    def _dots(self) -> DotPart:
        assert isinstance(self.part, DotPart)
        return self.part

    def kernel(self, chunk: Chunk) -> str:
        """The dot product function that a DotStep calls for some of the outputs."""
        assert isinstance(self.step, DotStep)
        return Dot.called(self.step, self._dots.pixels, chunk.blocks).name

    @property
    def depthwise(self) -> str:
        """The function that a DepthwiseStep calls."""
        assert isinstance(self.step, DepthwiseStep)
        assert isinstance(self.part, DepthwisePart)
        return depthwise_of(self.step, self.part).name

    def place(self, pixel: str) -> str:
        """The C expression of the first element of a pixel of the result, counted from the part's first one."""
        channels, whole = self.step.result.shape[1], len(self.step.parts) == 1
        if whole:
            return f"{pixel} * {channels}"
        _, _, height, width = self.step.result.shape
        rows, columns = self.grid
        row = f"{pixel} / {columns} % {rows} * {self.part.rows.step * width * channels}"
        column = f"{pixel} % {columns} * {self.part.columns.step * channels}"
        return f"{pixel} / {rows * columns} * {height * width * channels} + {row} + {column}"


def convolution_loops(name: str, parameters: list[str], weight: str, step: DotStep | DepthwiseStep) -> list[Loops]:
    """The functions, in the order of their first parts. `parameters` are those of the step, scratch last."""
    if len(step.parts) == 1:
        (part,) = step.parts
        top, left = _first_pads(part)
        return [Loops(name, tuple(parameters), True, weight, str(top), str(left), step, part, None)]
    tensors = parameters[: len(parameters) - len(step.scratch)]
    scratch = parameters[len(tensors) :]
    found: dict[object, Loops] = {}
    for part in step.parts:
        form = _form(part)
        if form not in found:
            pads = ["int32_t top", "int32_t left"] if part.window else []
            own = [*tensors, *_used(scratch, part), f"const {step.weight_type} *restrict weights", *pads]
            found[form] = Loops(
                f"{name}_part{len(found)}", tuple(own), False, "weights", "top", "left", step, part, form
            )
    return list(found.values())


def part_calls(loops: list[Loops], weight: str, step: DotStep | DepthwiseStep) -> list[str]:
    """One call for each part; none where the step is one function."""
    if len(step.parts) == 1:
        return []
    functions = {each.form: each.name for each in loops}
    first_weights = np.cumsum([0, *(part.weight.size for part in step.parts)]).tolist()
    calls = []
    for part, first in zip(step.parts, first_weights, strict=False):
        place = (part.rows.start * step.result.shape[3] + part.columns.start) * step.result.shape[1]
        tensors = ["x", *(f"r{i} + {place}" for i in range(len(step.added))), f"y + {place}"]
        scratch = _used(list(step.scratch_names), part)
        pads = [str(pad) for pad in _first_pads(part)] if part.window else []
        calls.append(f"{functions[_form(part)]}({', '.join([*tensors, *scratch, f'{weight} + {first}', *pads])});")
    return calls


def _used(scratch: list[str], part: Part) -> list[str]:
    """Without a gather there is no copy."""
    return scratch[:1] if isinstance(part, DotPart) and part.gather is Gather.NONE else scratch


def _named(declaration: str) -> str:
    """The name of a declared parameter."""
    return declaration.split()[-1].lstrip("*")


def _first_pads(part: Part) -> tuple[int, int]:
    return (0, 0) if part.window is None else part.window.pads[:2]


def _form(part: Part) -> object:
    """What decides the loops of a part, but for its weights, its first pads and its place."""
    window = None if part.window is None else replace(part.window, pads=(0, 0, 0, 0))
    return window, len(part.rows), len(part.columns), part.weight.shape
