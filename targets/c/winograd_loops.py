"""The functions of a convolution by Winograd's F(2x2, 3x3), as its template asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pefslc.targets.c.kernel_tasks import Dot
from pefslc.targets.c.part_loops import Loops
from pefslc.targets.c.steps import DotPart, WinogradStep
from pefslc.targets.c.winograd import OF_RESULTS, OF_TAPS, POINTS

__all__ = ["WinogradLoops"]

_SIDE = 4  # points

Sums = list[tuple[str, str]]  # names, and C expressions


@dataclass(frozen=True, slots=True, eq=False)
class WinogradLoops(Loops[WinogradStep, DotPart]):
    """Squares of the results of an image, counted through, `part.pixels` at a time."""

    points = POINTS

    @property
    def line(self) -> int:
        """Squares side by side."""
        return -(-len(self.part.columns) // 2)

    def first_square(self, tile: str) -> str:
        """The C expression of a tile's first square: the last tile begins so that it is whole."""
        first, last = f"{tile} * {self.part.pixels}", self.part.line - self.part.pixels
        return f"({first} < {last} ? {first} : {last})" if self.part.line % self.part.pixels else first

    @property
    def taps_of_points(self) -> tuple[Sums, Sums]:
        """Rows, then columns: what becomes of the taps of a square, whose first one of a channel is d[c]."""
        image = self.part.image
        assert image is not None
        return _transformed(OF_TAPS, lambda i, j: f"d[c + {i * image.row_elements + j * image.channels}]")

    @property
    def results_of_points(self) -> tuple[Sums, Sums]:
        """Rows, then columns: four times the results of a square, of the sums of points. That of the first is m[c]."""
        apart = self.part.pixels * self.step.padded_outputs
        return _transformed(OF_RESULTS, lambda i, j: f"m[c + {(i * _SIDE + j) * apart}]")

    @property
    def is_flat(self) -> bool:
        """Whether the results of a square that are side by side lie without gaps, and there are always two."""
        return self.step.padded_outputs == self.step.outputs and len(self.part.columns) % 2 == 0

    def kernel(self, blocks: int) -> str:
        """The name of that for so many blocks of outputs."""
        return Dot.called(self.step, self.part, blocks).name


def _transformed(by: Sequence[Sequence[int]], term: Callable[[int, int], str]) -> tuple[Sums, Sums]:
    """`by` times a matrix of `term`s, as names and C expressions; and that times `by` turned, as a list of rows."""
    rows, columns = range(len(by)), range(_SIDE)
    first = [(f"t{i}{j}", _sum(by[i], [term(r, j) for r in columns])) for i in rows for j in columns]
    second = [(f"{i}{j}", _sum(by[j], [f"t{i}{r}" for r in columns])) for i in rows for j in rows]
    return first, second


def _sum(signs: Sequence[int], terms: Sequence[str]) -> str:
    """Of those whose sign is not 0: the C expression, which begins with one that is added."""
    found = sorted(((sign, term) for sign, term in zip(signs, terms, strict=True) if sign), key=lambda each: -each[0])
    return " ".join(f"{'+' if sign > 0 else '-'} {term}" for sign, term in found).removeprefix("+ ")
