"""The choice of how many pictures each group works on at once: the fewest modelled cycles, as local memory has room.

What a group costs on so many pictures is measured: by schedules in which every group works on as many. What it needs is
counted: of each picture that it works on, all that is alive; and of each later group that works on more, what waits for
it. From the last group to the first, and from few pictures to many, the cheapest way for each amount that waits.

Weights of groups that run several times may stay in local memory: each vector that they take there saves its read in
all runs but one. How much of the memory is theirs is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.as_program import program_of
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.schedule.group_pass import PassSummary
from pefslc.targets.tensil.schedule.schedule import Schedule, schedule
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["alive_vectors", "schedule_batch"]

LOG = logging.getLogger(__name__)
Progress: TypeAlias = Callable[[int, int, str], None]
_KEPT_SHARES = (0, 16, 8, 5, 4, 3)  # weights that stay take one part in so many of local memory; 0: none
_WEIGHTS_SHARE = 16  # this part of it is for weights on their way


@dataclass(frozen=True, slots=True)
class _Measured:
    """Of every group on so many pictures: cycles, the rows of its weights, how often a run reads them."""

    cycles: Mapping[str, int]
    passes: Mapping[str, PassSummary]

    @classmethod
    def of(cls, program: WordProgram, architecture: Architecture, pictures: int) -> _Measured:
        plan = schedule(program, architecture, batches=Batches.uniform(program.groups, pictures))
        report = model_cycles(program_of("", architecture, plan), plan.segments)
        return cls({g.result: sum(report.of([g.result]).values()) for g in program.groups}, plan.passes)


@dataclass(frozen=True, slots=True)
class _Way:
    """From a group on: cycles, vectors that wait while the group before it runs, pictures at once of each group."""

    cycles: float
    waiting: int
    at_once: tuple[int, ...]


def schedule_batch(
    program: WordProgram, architecture: Architecture, size: int, progress: Progress | None = None
) -> Schedule:
    """The schedule for a batch of `size` pictures. Raises CompileError where not even one at a time is possible."""
    if size == 1:
        return schedule(program, architecture, progress)
    measured: dict[int, _Measured] = {}
    for pictures in sorted({-(-size // parts) for parts in range(1, size + 1)}):
        try:
            measured[pictures] = _Measured.of(program, architecture, pictures)
        except CompileError as error:
            if pictures == 1:
                raise
            LOG.debug("no group works on %d pictures at once: %s", pictures, error)
    found: dict[Batches, tuple[int, Schedule]] = {}
    for share in _KEPT_SHARES:
        batches = _chosen(program, architecture, size, measured, architecture.local_depth // share if share else 0)
        if batches in found:
            continue
        try:
            plan = schedule(program, architecture, batches=batches)
        except CompileError as error:
            if not share:
                raise
            LOG.debug("no room for weights that stay: %s", error)
            continue
        total = model_cycles(program_of("", architecture, plan), plan.segments).total
        LOG.debug("%d cycles with %d vectors of weights that stay: %s", total, share, list(batches.at_once.values()))
        found[batches] = total, plan
    return min(found.values(), key=lambda each: each[0])[1]


def _chosen(
    program: WordProgram, architecture: Architecture, size: int, measured: Mapping[int, _Measured], kept: int
) -> Batches:
    """The batches with the fewest cycles beside so many vectors for weights that stay."""
    room = architecture.local_depth - architecture.local_depth // _WEIGHTS_SHARE - kept
    at_once = _cheapest_way(program, architecture, size, measured, room).at_once
    groups = program.groups
    reads = {
        group.result: -(-size // pictures) * measured[pictures].passes[group.result].readings
        for group, pictures in zip(groups, at_once, strict=True)
    }
    stays: list[str] = []
    for group, pictures in sorted(zip(groups, at_once, strict=True), key=lambda each: -reads[each[0].result]):
        rows = measured[pictures].passes[group.result].weight_rows
        if 0 < rows <= kept and reads[group.result] > 1 and pictures < size:
            kept -= rows
            stays.append(group.result)
    pictures_of = {group.result: pictures for group, pictures in zip(groups, at_once, strict=True)}
    return Batches(size, pictures_of, frozenset(stays))


def _cheapest_way(
    program: WordProgram, architecture: Architecture, size: int, measured: Mapping[int, _Measured], room: int
) -> _Way:
    """Backwards through the groups; of the ways on so many pictures from a group on, those that no other one beats."""
    alive, crossing = alive_vectors(program, architecture.array_size)
    ways: dict[int, list[_Way]] = {max(measured): [_Way(0, 0, ())]}
    for i in range(len(program.groups) - 1, -1, -1):
        name, before = program.groups[i].result, ways
        ways = {}
        for pictures, found in measured.items():
            cycles = found.cycles[name] * size / pictures
            here = [
                _Way(cycles + way.cycles, waiting, (pictures, *way.at_once))
                for later, others in before.items()
                for way in others
                if later >= pictures
                for waiting in [way.waiting + (later - pictures) * crossing[i]]
                if pictures == 1 or pictures * alive[i] + waiting <= room
            ]
            ways[pictures] = _unbeaten(here)
    return min((way for found in ways.values() for way in found), key=lambda way: way.cycles)


def _unbeaten(ways: Sequence[_Way]) -> list[_Way]:
    found: list[_Way] = []
    for way in sorted(ways, key=lambda way: (way.cycles, way.waiting)):
        if not found or way.waiting < found[-1].waiting:
            found.append(way)
    return found


def alive_vectors(program: WordProgram, array_size: int) -> tuple[list[int], list[int]]:
    """Vectors of one picture: by group, of all that is alive while it runs; and of what is alive from it to the next,
    or later ones.
    """
    sizes = {name: tensor.layout.vectors(array_size) for name, tensor in program.tensors.items()}
    made = {group.result: i for i, group in enumerate(program.groups)}
    last = {tensor: i for i, group in enumerate(program.groups) for tensor in group.tensors}
    first = {
        tensor: i for i, group in reversed(list(enumerate(program.groups))) for tensor in group.tensors
    }  # an input comes from DRAM when it is read first
    lives = [(sizes[t], made.get(t, first.get(t, 0)), last.get(t, made.get(t, 0))) for t in sizes]
    groups = range(len(program.groups))
    return (
        [sum(size for size, start, end in lives if start <= i <= end) for i in groups],
        [sum(size for size, start, end in lives if start <= i < end) for i in groups],
    )
