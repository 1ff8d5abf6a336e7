"""The rows of plans with words for each channel: they come to local memory for the time of their group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import streaming_cycles
from pefslc.targets.tensil.matrix.group_steps import leading_channel_plan, trailing_channel_plan
from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan
from pefslc.targets.tensil.matrix.matrix_steps import MatrixStep
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.pass_plan import Needs, Scratch
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["ChannelRows"]

_SHARE = 4  # of the scratch, at most one part in so many: bursts of weights need the rest


@dataclass(frozen=True, slots=True)
class ChannelRows:
    """The plans of a group, and where the rows of each of their steps lie: so many vectors from `address` on among the
    constants, and from `base` on in local memory.
    """

    leading: MatrixPlan | None
    trailing: MatrixPlan | None
    starts: dict[MatrixStep, int]
    address: int
    vectors: int
    base: int

    @classmethod
    def of(
        cls, group: WordGroup, architecture: Architecture, constants: Constants, scratch: Scratch, needs: Needs
    ) -> ChannelRows | None:
        """The rows for a group's leading and trailing steps; None without a plan, or without room for them.

        They are stored whether or not a pass takes them: so a program has as many constants where they are resident,
        and nothing hides SIMD, as where they are not.
        """
        leading, trailing = (
            plan(group, architecture.data_type) for plan in (leading_channel_plan, trailing_channel_plan)
        )
        steps = list(dict.fromkeys(step for plan in (leading, trailing) if plan is not None for step in plan.alone))
        if not steps:
            return None
        rows = [step.rows(architecture.array_size, architecture.data_type.one) for step in steps]
        starts = np.cumsum([0, *map(len, rows)]).tolist()
        vectors = starts.pop()
        address = constants.store(np.concatenate(rows))
        left = scratch.size - vectors
        if not constants.resident and (left < needs.comfortable or vectors * _SHARE > scratch.size):
            return None
        return cls(leading, trailing, dict(zip(steps, starts, strict=True)), address, vectors, scratch.base)

    def beside(self, scratch: Scratch, constants: Constants) -> Scratch:
        """What is left of the scratch."""
        taken = 0 if constants.resident else self.vectors
        return Scratch(scratch.base + taken, scratch.size - taken)

    def fetch(self, emitter: Emitter, constants: Constants) -> dict[MatrixStep, int]:
        """Bring the rows to local memory; where those of each step are."""
        local = constants.fetch(emitter, self.base, self.address, self.vectors)
        return {step: local + start for step, start in self.starts.items()}

    def cycles(self, emitter: Emitter, constants: Constants) -> int:
        """What `fetch` takes."""
        return 0 if constants.resident else streaming_cycles(emitter.architecture, self.vectors)
