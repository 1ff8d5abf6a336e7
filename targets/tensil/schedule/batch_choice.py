"""The choice of how many pictures each group works on at once: the fewest modelled cycles, as local memory has room.

Ways to share the batch are tried without their programs (`batch_trial`). The search starts where room is counted: of
each picture that a group works on, all that is alive; and of each later group that works on more, what waits for it.
From the last group to the first, and from few pictures to many, the cheapest way for each amount that waits. From there
on it changes one thing at a time.

Weights of groups that run several times may stay in local memory: each vector that they take there saves its read in
all runs but one. How much of the memory is theirs is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import inf

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import vector_beats
from pefslc.targets.tensil.schedule.as_program import program_of
from pefslc.targets.tensil.schedule.batch_trial import BatchTrial, RunCosts
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.schedule.group_passes import GroupPasses
from pefslc.targets.tensil.schedule.schedule import Schedule, schedule
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["alive_vectors", "modelled_cycles", "schedule_batch", "schedule_batch_below"]

LOG = logging.getLogger(__name__)
_KEPT_SHARES = (0, 32, 16, 12, 10, 8, 6, 5, 4, 3)  # weights that stay take one part in so many of local memory; 0: none
_KEPT_STEPS = (16, 64)  # it changes by one part in so many
_MOST_TRIALS = 150  # of ways, without their programs
_MOST_TRIED = 3  # of the ways that should be cheapest, if there is no room for the first
_WEIGHTS_SHARE = 16  # this part of it is for weights on their way


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
    plan = schedule_batch_below(inf, program, architecture, size, progress)
    assert plan is not None
    return plan


def schedule_batch_below(
    cycles: float, program: WordProgram, architecture: Architecture, size: int, progress: Progress | None = None
) -> Schedule | None:
    """The same; None where it is known soon that it takes no fewer modelled cycles than that."""
    if size == 1:
        return schedule(program, architecture, progress)
    _require_room_for_ends(program, architecture, size)
    passes = GroupPasses(program, architecture, keeps=True)
    costs = RunCosts.measured(program, architecture, size, passes)
    numbers = sorted({-(-size // parts) for parts in range(1, size + 1)})
    if costs.least_of_all(numbers) >= cycles:
        return None
    trial = BatchTrial(program, architecture, size, passes, costs)
    for batches in _candidates(trial, numbers, progress)[:_MOST_TRIED]:
        try:
            return schedule(program, architecture, batches=batches, passes=passes)
        except CompileError as error:
            LOG.debug("no room for %s: %s", batches, error)
    return schedule(program, architecture, batches=Batches(size), passes=passes)


def _candidates(trial: BatchTrial, numbers: Sequence[int], progress: Progress | None) -> list[Batches]:
    """Ways to share the batch, the one that should be cheapest first; `numbers` of pictures at once to choose from.

    From the cheapest of some to start from, one change after the other, as long as it makes it cheaper.
    """
    size, costs, local_depth = trial.size, trial.costs, trial.architecture.local_depth
    names = [group.result for group in trial.program.groups]
    known: dict[Batches, float] = {}

    def cycles(shared: _Shared, below: float) -> float:
        batches = shared.batches(names, size, costs)
        if batches not in known:
            if progress is not None:
                progress(min(len(known), _MOST_TRIALS), _MOST_TRIALS + 1, "scheduling")
            known[batches] = inf if costs.least(batches) >= below else trial.cycles(batches, below)
        return known[batches]

    best, least = _Shared((1,) * len(names), 0), inf
    for shared in _starts(trial, numbers):
        if (found := cycles(shared, least)) < least:
            best, least = shared, found
    improved = True
    while improved and len(known) < _MOST_TRIALS:
        improved = False
        for other in best.neighbours(numbers, local_depth):
            if (found := cycles(other, least)) < least:
                best, least, improved = other, found, True
                break
            if len(known) >= _MOST_TRIALS:
                break
    return sorted((batches for batches in known if known[batches] < inf), key=lambda batches: known[batches])


def _starts(trial: BatchTrial, numbers: Sequence[int]) -> Iterator[_Shared]:
    """The cheapest ways beside so much for weights that stay, where room is counted; and all groups on as many."""
    program, architecture = trial.program, trial.architecture
    for share in _KEPT_SHARES:
        kept = architecture.local_depth // share if share else 0
        room = architecture.local_depth - architecture.local_depth // _WEIGHTS_SHARE - kept
        way = _cheapest_way(program, architecture, trial.size, trial.costs, numbers, room, spills=not kept)
        if way is not None:
            yield _Shared(way.at_once, kept)
    for number in numbers:
        yield _Shared((number,) * len(program.groups), 0)


@dataclass(frozen=True, slots=True)
class _Shared:
    """On how many pictures each group works at once, and how many vectors are for weights that stay."""

    at_once: tuple[int, ...]
    kept: int

    def batches(self, names: Sequence[str], size: int, costs: RunCosts) -> Batches:
        at_once = dict(zip(names, self.at_once, strict=True))
        return Batches(size, at_once, costs.worth_keeping(at_once, self.kept))

    def neighbours(self, numbers: Sequence[int], local_depth: int) -> Iterator[_Shared]:
        """The same with one change: more or less that stays; another number for neighbours that share one, or for some
        of them at one of their ends.
        """
        for share in _KEPT_STEPS:
            step = local_depth // share
            yield replace(self, kept=self.kept + step)
            if self.kept:
                yield replace(self, kept=max(self.kept - step, 0))
        first = 0
        for number, same in groupby(self.at_once):
            end = first + len(list(same))
            place = numbers.index(number)
            for other in (*numbers[place + 1 : place + 2], *numbers[max(place - 1, 0) : place]):
                for begin, until in _pieces(first, end):
                    changed = (other,) * (until - begin)
                    yield replace(self, at_once=self.at_once[:begin] + changed + self.at_once[until:])
            first = end


def _pieces(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The whole, and shorter and shorter parts at its end and its begin."""
    yield first, end
    length = (end - first) // 2
    while length:
        yield end - length, end
        yield first, first + length
        length //= 2


def _require_room_for_ends(program: WordProgram, architecture: Architecture, size: int) -> None:
    """Raise CompileError where DRAM0 cannot hold the inputs and outputs of the batch, before ways are tried."""
    ports, depth = (*program.inputs, *program.outputs), architecture.dram0_depth
    vectors = sum(program.tensors[port.tensor].layout.vectors(architecture.array_size) for port in ports)
    if size * vectors > depth:
        smaller = f"--batch {depth // vectors} or less; or " if depth >= vectors else ""
        raise CompileError(
            Code.TCU_DRAM0,
            f"DRAM0 has {depth} vectors, the inputs and outputs of {size} pictures need {size * vectors}",
            at=ports[0].value.origin,
            hint=f"{smaller}use an architecture with a larger dram0_depth",
        )


def modelled_cycles(plan: Schedule, architecture: Architecture) -> int:
    """Of the whole program."""
    return model_cycles(program_of("", architecture, plan), plan.segments).total


def _cheapest_way(
    program: WordProgram,
    architecture: Architecture,
    size: int,
    costs: RunCosts,
    numbers: Sequence[int],
    room: int,
    *,
    spills: bool,
) -> _Way | None:
    """Backwards through the groups; of the ways on so many pictures from a group on, those that no other one beats.

    spills  whether a group that has no room even for one picture may do with less
    """
    alive, crossing = alive_vectors(program, architecture.array_size)
    parking = 2 * vector_beats(architecture)  # cycles of a vector that waits in DRAM0
    ways: dict[int, list[_Way]] = {max(numbers): [_Way(0, 0, ())]}
    for i in range(len(program.groups) - 1, -1, -1):
        name, before = program.groups[i].result, ways
        ways = {}
        for pictures in numbers:
            cycles = costs.total(name, pictures)
            alone = spills and pictures == 1
            here = [
                _Way(cycles + way.cycles + parked, waiting, (pictures, *way.at_once))
                for later, others in before.items()
                for way in others
                if later >= pictures
                for waits in [(later - pictures) * crossing[i]]
                for more, parked in ((waits, 0), (0, waits * size // later * parking))
                for waiting in [way.waiting + more]
                if pictures * alive[i] + waiting <= room or (alone and not waiting)
            ]
            ways[pictures] = _unbeaten(here)
    return min((way for found in ways.values() for way in found), key=lambda way: way.cycles, default=None)


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
