"""A network on the TCU, before it is a program."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.targets.tensil.native.native_report import NativeReport
from pefslc.targets.tensil.schedule.schedule import Schedule
from pefslc.targets.tensil.split import Split
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["LoweredNetwork"]


@dataclass(frozen=True, slots=True)
class LoweredNetwork:
    """What of the graph was split, its last form before the schedule, the schedule.

    native           what is said of native words; None where nothing is native
    times_for_exact  where it is bounded because exactness takes so many times its cycles; else None
    """

    split: Split
    program: WordProgram
    schedule: Schedule
    native: NativeReport | None
    times_for_exact: float | None = None
