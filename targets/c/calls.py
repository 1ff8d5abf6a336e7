"""What a run is made of: calls of the steps' functions. A step that has bands may be computed in parts.

With `--steps` the parts follow each other: one is small enough for a loop that has a deadline. With `--threads` they
run at one time, each with scratch of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pefslc.artifacts.costs import macs
from pefslc.geometry.shapes import element_count
from pefslc.targets.c.steps import Program, Step
from pefslc.targets.c.storage import CACHE_LINE, round_up

__all__ = ["Portion", "most_of_a_call", "portions", "with_threads"]

_WORTH_THREADS = 1 << 15  # multiply-accumulates: some microseconds, which waking threads takes, too


@dataclass(frozen=True, slots=True)
class Portion:
    """The calls of `NAME_step` that compute one step of the program.

    step   its number in the program
    first  number of the first call
    bands  that a call computes; the last one computes what is left of `all_bands`
    """

    step: int
    first: int
    calls: int
    bands: int
    all_bands: int

    @property
    def end(self) -> int:
        """The number of the first call that is the next step's."""
        return self.first + self.calls

    @property
    def band(self) -> tuple[str, str]:
        """C expressions of the first band of call number `step`, and of the end."""
        if self.calls == 1:
            return "0", str(self.all_bands)
        begin = f"(step - {self.first}) * {self.bands}"
        if self.all_bands % self.bands == 0:
            return begin, f"{begin} + {self.bands}"
        return begin, f"step < {self.end - 1} ? {begin} + {self.bands} : {self.all_bands}"


def portions(program: Program, most: int) -> list[Portion]:
    """Of each step, in order: calls that do about `most` multiply-accumulates, or one band where that is more."""
    found: list[Portion] = []
    first = 0
    for number, step in enumerate(program.steps):
        all_bands = step.bands or 1
        together = min(max(most * all_bands // max(_work(step), 1), 1), all_bands)
        found.append(Portion(number, first, -(-all_bands // together), together, all_bands))
        first = found[-1].end
    return found


def most_of_a_call(program: Program, found: list[Portion]) -> int:
    """Multiply-accumulates of the longest call, or elements of a step that has none."""
    return max(-(-_work(program.steps[p.step]) * p.bands // p.all_bands) for p in found)


def with_threads(program: Program, threads: int) -> Program:
    """The program whose large steps are computed in up to `threads` parts at a time, with scratch for each."""
    return replace(program, steps=tuple(_divided(step, threads) for step in program.steps))


def _divided(step: Step, threads: int) -> Step:
    parts = min(threads, step.bands or 1)
    if parts == 1 or _work(step) < _WORTH_THREADS:
        return step
    scratch = tuple(replace(b, elements=parts * round_up(b.elements, CACHE_LINE // b.type.bytes)) for b in step.scratch)
    return replace(step, scratch=scratch, threads=parts)


def _work(step: Step) -> int:
    """Multiply-accumulates, or elements where there are none."""
    return sum(map(macs, step.ops)) or element_count(step.result.shape)
