"""Where a pass leaves its result: in local memory, or, staged there, in DRAM0; and what passes through on its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from pefslc.targets.tensil.groups.layout import View, rect_runs
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.part import Part
from pefslc.targets.tensil.schedule.tensor_memory import OfPicture

__all__ = ["ResultPlace"]


@dataclass(frozen=True, slots=True)
class ResultPlace:
    """The place of one group's result.

    views         where tensors lie: in local memory those that `local` names, the others in DRAM0
    staging_base  scratch for what passes through, and for a result that goes to DRAM0; None where it passes through the
                  result's place in local memory
    """

    result: str
    views: Mapping[OfPicture, View]
    local: Set[OfPicture]
    staging_base: int | None
    emitter: Emitter

    def store(self, part: Part, chosen: Sequence[int], start: int = 0, *, behind: int = 0) -> None:
        """Write the accumulators of chosen[start:], or what lies so many behind them, to where the result lies."""
        for picture, begin in part.each():
            view = self.views[self.result, picture]
            if (self.result, picture) in self.local:
                for i, block in enumerate(chosen[start:], start):
                    for run in rect_runs(part.rect, View.part(begin, part.rect), view):
                        self.emitter.from_accumulators(
                            run.first + behind + i * part.vectors, run.second + view.block(block), run.vectors
                        )
                continue
            assert not start, "only a result in local memory is written in parts"
            assert self.staging_base is not None
            self.emitter.from_accumulators(0, self.staging_base, part.vectors * len(chosen))
            staged = View.part(self.staging_base, part.rect)
            for i, block in enumerate(chosen):
                for run in rect_runs(part.rect, staged, view):
                    first, second = run.first + i * part.vectors, run.second + view.block(block)
                    self.emitter.dram(MoveKind.LOCAL_TO_DRAM0, first, second, run.vectors)

    def pass_through(
        self, part: Part, chosen: Sequence[int], first: int, *, behind: int = 0
    ) -> list[tuple[View, bool]]:
        """Move the accumulators of chosen[first:], or what lies so many behind them, to where the result goes or is
        staged; for each picture where they are, and whether there are all blocks.
        """
        if self.staging_base is None:
            self.store(part, chosen, first, behind=behind)
        else:
            self.emitter.from_accumulators(behind, self.staging_base, part.vectors * len(chosen))
        return self.passed_through(part)

    def passed_through(self, part: Part) -> list[tuple[View, bool]]:
        """Where the results go, or are staged; whether there are all blocks."""
        if self.staging_base is None:
            return [(self.views[self.result, picture], True) for picture in part.pictures]
        return [(View.part(self.staging_base, part.rect), False)]

    def multiply(
        self, views: Sequence[tuple[View, bool]], part: Part, i: int, block: int, *, accumulate: bool
    ) -> None:  # fmt: skip
        """What passes through there, of the i-th block of the pass, by the matrix in the array."""
        for (view, whole), (_, begin) in zip(views, part.each(), strict=True):
            for run in rect_runs(part.rect, view, View.part(begin, part.rect)):
                source = run.first + view.block(block if whole else i)
                self.emitter.matmul(source, run.second + i * part.vectors, run.vectors, 0, 0, accumulate=accumulate)
