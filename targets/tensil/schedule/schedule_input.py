"""What a schedule is made of: what runs on what, with which share of local memory, in which batches."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.schedule.group_passes import GroupPasses
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["ScheduleInput"]


@dataclass(frozen=True, slots=True)
class ScheduleInput:
    """A program and its machine.

    resident  vectors at the start of local memory for constants that stay there; 0: DRAM1 holds them
    batches   the batch, and how the groups share it
    passes    what is known of the passes of the program's groups
    """

    program: WordProgram
    architecture: Architecture
    resident: int
    batches: Batches
    passes: GroupPasses
