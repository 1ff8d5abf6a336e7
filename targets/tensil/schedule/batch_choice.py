"""The choice of how many pictures each group works on at once: the fewest modelled cycles, as local memory has room.

What a group costs on so many pictures is measured: by schedules in which every group works on as many. What it needs is
counted: of each picture that it works on, all that is alive; and of each later group that works on more, what waits for
it. From the last group to the first, and from few pictures to many, the cheapest way for each amount that waits.

Weights of groups that run several times may stay in local memory: each vector that they take there saves its read in
all runs but one. How much of the memory is theirs is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import vector_beats
from pefslc.targets.tensil.schedule.as_program import program_of
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.schedule.part import PassSummary
from pefslc.targets.tensil.schedule.schedule import Schedule, schedule
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["alive_vectors", "modelled_cycles", "schedule_batch"]

LOG = logging.getLogger(__name__)
_KEPT_SHARES = (0, 32, 16, 12, 10, 8, 6, 5, 4, 3)  # weights that stay take one part in so many of local memory; 0: none
_MOST_TRIED = 3  # of the ways that should be cheapest
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


@dataclass(frozen=True, slots=True)
class _Guess:
    """Batches, and the cycles that they should take."""

    cycles: float
    batches: Batches


def schedule_batch(
    program: WordProgram, architecture: Architecture, size: int, progress: Progress | None = None
) -> Schedule:
    """The schedule for a batch of `size` pictures. Raises CompileError where not even one at a time is possible."""
    if size == 1:
        return schedule(program, architecture, progress)
    _require_room_for_ends(program, architecture, size)
    alive, _ = alive_vectors(program, architecture.array_size)
    measured: dict[int, _Measured] = {}
    at_once = sorted({-(-size // parts) for parts in range(1, size + 1)})
    steps = len(at_once) + _MOST_TRIED
    for step, pictures in enumerate(at_once):
        if progress is not None:
            progress(step, steps, "scheduling")
        if pictures == 1 or pictures * min(alive) <= architecture.local_depth:
            try:
                measured[pictures] = _Measured.of(program, architecture, pictures)
            except CompileError as error:
                if pictures == 1:
                    raise
                LOG.debug("no group works on %d pictures at once: %s", pictures, error)
    shares = (architecture.local_depth // share if share else 0 for share in _KEPT_SHARES)
    asked = (_guess(program, architecture, size, measured, share) for share in shares)
    guesses = {guess.batches: guess for guess in asked if guess is not None}
    found: list[tuple[int, Schedule]] = []
    for step, guess in enumerate(sorted(guesses.values(), key=lambda guess: guess.cycles)[:_MOST_TRIED], len(at_once)):
        if progress is not None:
            progress(step, steps, "scheduling")
        plan = _attempt(program, architecture, guess.batches)
        if plan is not None:
            found.append((modelled_cycles(plan, architecture), plan))
            LOG.debug("%d cycles, where %d were expected, of %s", found[-1][0], guess.cycles, guess.batches)
    if not found:
        return schedule(program, architecture, batches=Batches(size))
    return min(found, key=lambda each: each[0])[1]


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


def _attempt(program: WordProgram, architecture: Architecture, batches: Batches) -> Schedule | None:
    try:
        return schedule(program, architecture, batches=batches)
    except CompileError as error:
        LOG.debug("no room for %s: %s", batches, error)
        return None


def _guess(
    program: WordProgram, architecture: Architecture, size: int, measured: Mapping[int, _Measured], kept: int
) -> _Guess | None:
    """The batches with the fewest cycles beside so many vectors for weights that stay; None for no room."""
    room = architecture.local_depth - architecture.local_depth // _WEIGHTS_SHARE - kept
    way = _cheapest_way(program, architecture, size, measured, room, spills=not kept)
    if way is None:
        return None
    cycles, beats = way.cycles, vector_beats(architecture)
    at_once = {group.result: pictures for group, pictures in zip(program.groups, way.at_once, strict=True)}
    passes = {name: measured[pictures].passes[name] for name, pictures in at_once.items()}
    reads = {name: -(-size // pictures) * passes[name].readings for name, pictures in at_once.items()}
    stays: list[str] = []
    for name, pictures in sorted(at_once.items(), key=lambda each: -reads[each[0]]):
        rows = passes[name].weight_rows
        if 0 < rows <= kept and reads[name] > 1 and pictures < size:
            kept -= rows
            cycles -= rows * beats * (reads[name] - 1)
            stays.append(name)
    return _Guess(cycles, Batches(size, at_once, frozenset(stays)))


def _cheapest_way(
    program: WordProgram,
    architecture: Architecture,
    size: int,
    measured: Mapping[int, _Measured],
    room: int,
    *,
    spills: bool,
) -> _Way | None:
    """Backwards through the groups; of the ways on so many pictures from a group on, those that no other one beats.

    spills  whether a group that has no room even for one picture may do with less
    """
    alive, crossing = alive_vectors(program, architecture.array_size)
    parking = 2 * vector_beats(architecture)  # cycles of a vector that waits in DRAM0
    ways: dict[int, list[_Way]] = {max(measured): [_Way(0, 0, ())]}
    for i in range(len(program.groups) - 1, -1, -1):
        name, before = program.groups[i].result, ways
        ways = {}
        for pictures, found in measured.items():
            cycles = found.cycles[name] * size / pictures
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
