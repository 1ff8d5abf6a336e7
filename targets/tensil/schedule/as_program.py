"""A schedule as the program that files hold."""

from __future__ import annotations

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.program.tmodel import IoEntry, TensilProgram, constant_blocks
from pefslc.targets.tensil.schedule.schedule import Schedule
from pefslc.targets.tensil.schedule.tensor_memory import Entry

__all__ = ["program_of"]


def program_of(name: str, architecture: Architecture, plan: Schedule) -> TensilProgram:
    """The program of that name."""

    def entries(found: tuple[Entry, ...]) -> tuple[IoEntry, ...]:
        return tuple(IoEntry(e.name, e.base, e.size) for e in sorted(found, key=lambda e: e.base))

    return TensilProgram(
        architecture,
        name,
        plan.code,
        constant_blocks(plan.constants),
        entries(plan.inputs),
        entries(plan.outputs),
        plan.resident,
    )
