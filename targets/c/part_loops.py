"""The loops of a convolution's parts, as the templates ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pefslc.geometry.shapes import Window
from pefslc.targets.c.kernel_tasks import depthwise_of
from pefslc.targets.c.prototypes import Parameter
from pefslc.targets.c.steps import DepthwisePart, DepthwiseStep, DotPart, DotStep, WinogradStep

__all__ = ["DepthwiseLoops", "Loops"]

SomeStep = TypeVar("SomeStep", DotStep, DepthwiseStep, WinogradStep)
SomePart = TypeVar("SomePart", DotPart, DepthwisePart)


@dataclass(frozen=True, slots=True, eq=False)
class Loops(Generic[SomeStep, SomePart]):
    """The loops of one part, or of all parts of one form.

    name        of their C function
    parameters  its own
    weight      the C expression of where the weights are
    top, left   those of the pads before the first row and column
    """

    name: str
    parameters: tuple[Parameter, ...]
    weight: str
    top: str
    left: str
    step: SomeStep
    part: SomePart

    @property
    def is_alone(self) -> bool:
        """Whether they are all loops of the step, rather than those of some parts, which its function calls."""
        return not self.step.is_phased

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
        _, _, height, width = self.step.images
        rows, columns = self.window.extent
        return rows <= height and columns <= width

    def place(self, pixel: str) -> str:
        """The C expression of the first element of a pixel of the result, counted from the part's first one."""
        channels = self.step.result.shape[1]
        if self.is_alone:
            return f"{pixel} * {channels}"
        _, _, height, width = self.step.result.shape
        rows, columns = self.grid
        row = f"{pixel} / {columns} % {rows} * {self.part.rows.step * width * channels}"
        column = f"{pixel} % {columns} * {self.part.columns.step * channels}"
        return f"{pixel} / {rows * columns} * {height * width * channels} + {row} + {column}"


@dataclass(frozen=True, slots=True, eq=False)
class DepthwiseLoops(Loops[DepthwiseStep, DepthwisePart]):
    """The loops of a depthwise convolution."""

    @property
    def kernel(self) -> str:
        """The function that they call."""
        return depthwise_of(self.step, self.part).name
