"""The printed form of a schedule: its instructions, and before those of each group what they do and where it lies.

It is for people; `program.listing` reads the instructions back.
"""

from __future__ import annotations

from collections.abc import Iterator

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddByMatrix,
    AddWord,
    ChannelAddWord,
    ChannelDiagonal,
    ChannelDiagonalAgain,
    Diagonal,
    DiagonalAgain,
    MatrixStep,
    SlopesByMatrix,
)
from pefslc.targets.tensil.program.encoding import decode_table
from pefslc.targets.tensil.program.listing import disassemble
from pefslc.targets.tensil.program.table import instructions_of
from pefslc.targets.tensil.schedule.schedule import Schedule

__all__ = ["print_schedule"]


def print_schedule(schedule: Schedule, architecture: Architecture) -> str:
    """The listing, with a comment where instructions begin to serve another group, and where results are complete."""
    table = decode_table(architecture, schedule.code)
    lines = disassemble(instructions_of(architecture, table)).splitlines()
    comments: dict[int, list[str]] = {}
    for segment in schedule.segments:
        name = f"%{segment.group}" if segment.group else "the frame: constants, outputs"
        comments.setdefault(segment.first, []).append(f"// {name}{_passes(schedule, segment.group)}")
    for place in schedule.stored:
        memory = "local" if place.local else "dram0"
        whose = f" of picture {place.picture}" if schedule.batches.size > 1 else ""
        where = ", ".join(f"{first}.." for first in place.view.apart or (place.view.base,))
        comments.setdefault(place.before, []).insert(0, f"// %{place.tensor}{whose} is complete in {memory}[{where}]")
    printed = [*_head(schedule)]
    for index, line in enumerate(lines):
        printed += [*comments.get(index, []), line]
    return "\n".join([*printed, *comments.get(len(lines), [])]) + "\n"


def _head(schedule: Schedule) -> Iterator[str]:
    where = "local memory, from run to run" if schedule.resident else "DRAM1"
    yield f"// {len(schedule.constants)} vectors of weights and constants in {where}, from address 0"
    for kind, entries in (("input", schedule.inputs), ("output", schedule.outputs)):
        for entry in entries:
            yield f'// {kind} "{entry.name}" in dram0[{entry.base}..{entry.base + entry.size - 1}]'


def _passes(schedule: Schedule, group: str) -> str:
    summary = schedule.passes.get(group)
    if summary is None:
        return ""
    passes = f"{summary.count} pass{'' if summary.count == 1 else 'es'}"
    blocks = f"{summary.blocks} block{'' if summary.blocks == 1 else 's'} of channels"
    pictures = f" of {summary.pictures} pictures" if summary.pictures > 1 else ""
    text = f": {passes} of {summary.rows} x {summary.columns} pixels{pictures}, {blocks}"
    if summary.steps:
        by_simd = f"of {summary.simd_blocks} blocks by SIMD, of the others " if summary.simd_blocks else ""
        text += f"; steps {by_simd}by MatMul: {', '.join(map(_step_text, summary.steps))}"
    elif summary.simd_blocks:
        text += "; steps by SIMD"
    return text


def _step_text(step: MatrixStep) -> str:
    match step:
        case AddWord(word):
            return f"add {word}"
        case Diagonal(word, bias):
            return f"multiply by {word} with bias {bias}"
        case DiagonalAgain(word, bias):
            return f"add the same times {word} with bias {bias}"
        case AddByMatrix(bias, word):
            return f"add the tensor{'' if word is None else f' times {word}'}{f' with bias {bias}' if bias else ''}"
        case SlopesByMatrix(above, below):
            return f"multiply by {above}, below zero by {below}"
        case ChannelAddWord():
            return "add per channel"
        case ChannelDiagonal():
            return "multiply per channel"
        case ChannelDiagonalAgain():
            return "add the same times another word per channel"
