"""What a way to share a batch costs, without its program: the runs of the groups, and what moves to and from DRAM0.

What a run costs is measured once for each group: by schedules of one picture and of two, as if local memory had room
for everything. From there on each picture costs as much as the second, and each pass of several as much as the first.
What memory moves is counted, by giving all tensors their places (`placing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.cost.cycles import Kind, model_cycles
from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.machine.timing import READ_LATENCY_CYCLES, read_cycles, vector_beats, write_cycles
from pefslc.targets.tensil.schedule.as_program import program_of
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.schedule.group_passes import GroupPasses
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.schedule.placing import Placing
from pefslc.targets.tensil.schedule.schedule import schedule
from pefslc.targets.tensil.schedule.schedule_input import ScheduleInput
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["BatchTrial", "RunCosts"]


@dataclass(frozen=True, slots=True)
class _OfGroup:
    """Cycles of a run without what moves tensors.

    alone, more    of a pass of one picture, and of each further one
    weights        of `alone`, those that read weights; `more_weights` of each further picture
    rows           of its weights, in local memory if they stay there
    together       pictures that a pass may have
    """

    alone: int
    more: int
    weights: int
    more_weights: int
    rows: int
    together: int

    def passes(self, pictures: int) -> int:
        return -(-pictures // self.together) if self.together > 1 else 1


@dataclass(frozen=True, slots=True)
class RunCosts:
    """The runs of all groups, by their results, in a batch of `size` pictures."""

    size: int
    groups: Mapping[str, _OfGroup]
    _totals: dict[tuple[str, int, bool], int] = field(default_factory=dict, repr=False)

    @classmethod
    def measured(cls, program: WordProgram, architecture: Architecture, size: int, passes: GroupPasses) -> RunCosts:
        """Raises CompileError where there is no program for one picture, for want of another memory."""
        a = architecture.array_size
        vectors = sum(tensor.layout.vectors(a) for tensor in program.tensors.values())
        ample = replace(architecture, local_depth=architecture.local_depth + 2 * vectors)
        spent: list[Mapping[str, tuple[int, int]]] = []
        rows: dict[str, int] = {}
        for pictures in (1, 2):
            shared = Batches.uniform(program.groups, pictures)
            plan = schedule(program, ample, batches=shared, passes=passes)
            report = model_cycles(program_of("", ample, plan), plan.segments)
            rows = {name: summary.weight_rows for name, summary in plan.passes.items()}
            found = {group.result: report.of([group.result]) for group in program.groups}
            spent.append({
                name: (sum(kinds.values()) - kinds.get(Kind.DRAM0, 0), kinds.get(Kind.DRAM1, 0))
                for name, kinds in found.items()
            })  # fmt: skip
        groups: dict[str, _OfGroup] = {}
        for group in program.groups:
            (one, weights), (two, both_weights) = (each[group.result] for each in spent)
            apart = group.reads_in_place or isinstance(group.head, MaxHead)
            together = 1 if apart else max(1, passes.accumulators.capacity_of(group) // group.layout.pixels)
            groups[group.result] = _OfGroup(
                one,
                two - one,
                weights,
                both_weights - weights,
                rows[group.result] + 2 * group.layout.blocks(a),
                together,
            )
        return cls(size, groups)

    def of_run(self, name: str, pictures: int) -> int:
        """Of one run."""
        group = self.groups[name]
        passes = group.passes(pictures)
        return passes * group.alone + (pictures - passes) * group.more

    def weights(self, name: str, pictures: int) -> int:
        """Of a run, the cycles that read weights."""
        group = self.groups[name]
        passes = group.passes(pictures)
        return passes * group.weights + (pictures - passes) * group.more_weights

    def total(self, name: str, pictures: int, *, keeps: bool = False) -> int:
        """Of all runs on so many pictures at once. `keeps`: only the first one reads weights."""
        key = name, pictures, keeps
        if key not in self._totals:
            runs = [min(pictures, self.size - first) for first in range(0, self.size, pictures)]
            saved = sum(self.weights(name, count) for count in runs[1:]) if keeps else 0
            self._totals[key] = sum(self.of_run(name, count) for count in runs) - saved
        return self._totals[key]

    def least(self, batches: Batches) -> int:
        """Of all groups, if nothing moves to make room."""
        return sum(self.total(name, n, keeps=name in batches.kept) for name, n in batches.at_once.items())

    def least_of_all(self, numbers: Sequence[int]) -> int:
        """Of all groups, each on the number of pictures at once that suits it."""
        return sum(min(self.total(name, n, keeps=True) for n in numbers) for name in self.groups)

    def worth_keeping(self, at_once: Mapping[str, int], room: int) -> frozenset[str]:
        """Groups whose weights should stay in so many vectors: first those that save most for each vector."""
        saved = {n: self.total(n, pictures) - self.total(n, pictures, keeps=True) for n, pictures in at_once.items()}
        found: list[str] = []
        for name in sorted(at_once, key=lambda n: -saved[n] / self.groups[n].rows):
            rows = self.groups[name].rows
            if saved[name] > 0 and rows <= room:
                found.append(name)
                room -= rows
        return frozenset(found)


class _Moved:
    """Cycles of the moves that it receives."""

    def __init__(self, architecture: Architecture) -> None:
        self.cycles, self._beats = 0.0, vector_beats(architecture)

    def dram(self, kind: MoveKind, local: int, dram: int, vectors: int) -> None:
        del local, dram
        if kind is MoveKind.LOCAL_TO_DRAM0:
            self.cycles += write_cycles(self._beats, vectors, strided=False)
        else:
            self.cycles += read_cycles(self._beats, vectors, READ_LATENCY_CYCLES, strided=False)


@dataclass(frozen=True, slots=True)
class BatchTrial:
    """Tries ways to share a batch."""

    program: WordProgram
    architecture: Architecture
    size: int
    passes: GroupPasses
    costs: RunCosts

    def cycles(self, batches: Batches, below: float = inf) -> float:
        """Modelled cycles of the whole batch, about; infinite where there is no room, or they are not below so many."""
        moved = _Moved(self.architecture)
        total: float = self.costs.least(batches)
        try:
            placing = Placing(ScheduleInput(self.program, self.architecture, 0, batches, self.passes), moved)
            total += sum(
                self.costs.total(name, batches.at_once[name])
                - self.costs.total(name, batches.at_once[name], keeps=True)
                for name in batches.kept.difference(placing.kept)
            )
            for group, pictures in placing.runs:
                needs = placing.begin(group, pictures)
                if needs.streams:
                    total += self._streamed(needs, len(pictures), group.result)
                placing.end(group, pictures)
                if total + moved.cycles >= below:
                    return inf
            placing.finish()
        except CompileError:
            return inf
        return total + moved.cycles

    def _streamed(self, needs: Needs, pictures: int, name: str) -> float:
        """What passes of one picture cost more, and move."""
        a, beats = self.architecture.array_size, vector_beats(self.architecture)
        vectors = sum(layout.vectors(a) for _, layout in needs.streamed_terms.values())
        vectors += (len(needs.added) + needs.staging) * self.program.layout(name).vectors(a)
        alone = pictures * self.costs.of_run(name, 1) - self.costs.of_run(name, pictures)
        return alone + vectors * beats * pictures
