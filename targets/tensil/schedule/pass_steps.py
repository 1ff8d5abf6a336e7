"""How a group does its steps, pass by pass: by SIMD, by matrix steps, or some output blocks so and the others so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.matrix.group_steps import (
    added_tensors,
    addend_plan,
    bare_plan,
    leading_plan,
    leading_steps,
    steps_before_addend,
    trailing_plan,
    trailing_steps,
)
from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan
from pefslc.targets.tensil.matrix.matrix_steps import MatrixStep
from pefslc.targets.tensil.matrix.step_choice import Choice, choose, matrix_cycles, simd_cycles
from pefslc.targets.tensil.schedule.channel_rows import ChannelRows
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.pass_order import hidden_by
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.schedule.simd_steps import operations_of
from pefslc.targets.tensil.schedule.weights import Tile, with_carried
from pefslc.targets.tensil.words.steps import AddOffset
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup

__all__ = ["PassSteps"]


@dataclass
class PassSteps:
    """The choices of one group, and where the rows of its matrix steps lie in local memory.

    keeps_weights  whether local memory has its weights from run to run
    """

    group: WordGroup
    layouts: dict[str, Layout]
    tiles: list[list[Tile]]
    needs: Needs
    architecture: Architecture
    emitter: Emitter
    constants: Constants
    matrix_rows: dict[MatrixStep, int]
    channel_rows: ChannelRows | None
    keeps_weights: bool = False

    def leading(self, chosen: Sequence[int], vectors: int) -> Choice:
        """How the leading steps of some output blocks are done, so many vectors each, or all steps where the plan for
        the addition and both sides is shorter.
        """
        if not isinstance(self.group.head, SumHead):
            return Choice(None, len(chosen), False, 0)
        a, data_type = self.architecture.array_size, self.architecture.data_type
        hides = [self.hides(block) for block in chosen]
        operations = operations_of(leading_steps(self.group))
        if (rows := self.channel_rows) is not None and rows.leading is not None:
            cycles = rows.cycles(self.emitter, self.constants)
            return choose(rows.leading, operations, vectors, hides, a, carried=False, rows_cycles=cycles)
        plan = self._available(leading_plan(self.group, data_type))
        carried = self._can_carry(plan, chosen)
        bare = None if carried and not self.stores_with_offset else self._available(bare_plan(self.group, data_type))
        leading = choose(plan if carried else bare or plan, operations, vectors, hides, a, carried=carried)
        if carried and bare is not None:
            leading = min(leading, choose(bare, operations, vectors, hides, a, carried=False), key=lambda c: c.cycles)
        whole = self._available(addend_plan(self.group, data_type))
        if whole is None:
            return leading
        carried, count = self._can_carry(whole, chosen), vectors * len(chosen)
        cycles = matrix_cycles(whole.steps if carried else whole.alone, count, a, len(chosen))
        apart = leading.cycles + count + self.trailing(len(chosen), vectors)[1]
        if self.group.add_high is not None:  # nothing hides SIMD behind it
            apart += simd_cycles(len(steps_before_addend(self.group)), count)
        must = any(added.ceiling is not None or added.carried for added in added_tensors(self.group))
        return Choice(whole, 0, carried, cycles) if must or cycles < apart else leading

    @property
    def stores_with_offset(self) -> bool:
        """Whether the last step leaves the result with an offset: then sums that carry nothing may have less to do."""
        return any(isinstance(step, AddOffset) for step in self.group.steps)

    def hides(self, block: int) -> int:
        """Cycles of SIMD that the tiles of an output block hide."""
        is_read = not (self.constants.resident or self.keeps_weights)
        return hidden_by(self.tiles[block], self.architecture, is_read=is_read)

    def trailing(self, blocks: int, vectors: int) -> tuple[MatrixPlan | None, int]:
        """The plan for what follows the last added tensor, if it is shorter, and cycles: nothing hides SIMD there."""
        by_simd = simd_cycles(operations_of(trailing_steps(self.group)), vectors * blocks)
        plan, by_matrix = self._available(trailing_plan(self.group, self.architecture.data_type)), 0
        if (rows := self.channel_rows) is not None and rows.trailing is not None:
            plan, by_matrix = rows.trailing, rows.cycles(self.emitter, self.constants)
        if plan is None:
            return None, by_simd
        by_matrix += matrix_cycles(plan.alone, vectors * blocks, self.architecture.array_size, blocks)
        return (plan, by_matrix) if by_matrix < by_simd else (None, by_simd)

    def carrying(self, block: int, word: int) -> list[Tile] | None:
        """The tiles of an output block whose sums carry `word`; None where they cannot."""
        return with_carried(self.group, self.layouts, self.tiles[block], word, self.architecture.data_type)

    def bring_rows(self, step: MatrixStep) -> int:
        """Bring a step's rows to local memory, if they are the group's own and not there yet; where they lie."""
        if step not in self.matrix_rows:
            assert self.channel_rows is not None
            self.matrix_rows = self.channel_rows.fetch(self.emitter, self.constants) | self.matrix_rows
        return self.matrix_rows[step]

    def _available(self, plan: MatrixPlan | None) -> MatrixPlan | None:
        """The plan, if its rows are in local memory."""
        return plan if plan is not None and all(step in self.matrix_rows for step in plan.alone) else None

    def _can_carry(self, plan: MatrixPlan | None, chosen: Sequence[int]) -> bool:
        if plan is None or not plan.carried or self.needs.streamed_terms or self.group.add_high is not None:
            return False
        return all(self.carrying(block, plan.carried) is not None for block in chosen)
