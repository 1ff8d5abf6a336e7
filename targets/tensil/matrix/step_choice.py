"""Which output blocks of a pass take SIMD steps, and which matrix steps: by cost.

SIMD operations of a block run in the gaps of the following blocks' tiles: in the drain before each LoadWeights, and
behind DRAM reads. The last blocks have no such gaps, so matrix steps (`matrix_plan`) are shorter there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pefslc.targets.tensil.machine.timing import SIMD_CYCLES, SIMD_READ_CYCLES, STORE_CYCLES, drain_cycles, load_cycles
from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan
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

__all__ = ["Choice", "choose", "matrix_cycles", "simd_cycles"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Output blocks before `first`, by their place in the pass, take SIMD steps, the others the matrix steps.

    plan     the matrix steps; None where no block takes them
    carried  the sums carry the plan's constant
    cycles   the estimated cost of both
    """

    plan: MatrixPlan | None
    first: int
    carried: bool
    cycles: int

    @property
    def steps(self) -> tuple[MatrixStep, ...]:
        """The matrix steps that are left to do."""
        if self.plan is None:
            return ()
        return self.plan.steps if self.carried else self.plan.alone


def choose(
    plan: MatrixPlan | None,
    operations: int,
    vectors: int,
    hides: Sequence[int],
    array_size: int,
    *,
    carried: bool,
    rows_cycles: int = 0,
) -> Choice:
    """The cheapest choice.

    operations  SIMD operations a vector
    vectors     in one output block
    hides       per output block, the cycles of SIMD that its tiles hide
    carried     whether the sums can carry the plan's constant
    rows_cycles  what it takes to bring the plan's rows to local memory
    """
    blocks = len(hides)
    simd = simd_cycles(operations, vectors)
    choices = [Choice(None, blocks, False, _exposed(simd, hides, blocks))]
    if plan is not None:
        for first in reversed(range(blocks)):
            steps, left = plan.steps if carried else plan.alone, blocks - first
            by_matrix = rows_cycles + matrix_cycles(steps, left * vectors, array_size, left)
            choices.append(Choice(plan, first, carried, _exposed(simd, hides, first) + by_matrix))
    return min(choices, key=lambda choice: choice.cycles)


def _exposed(cycles: int, hides: Sequence[int], blocks: int) -> int:
    """Cycles of SIMD that nothing hides, where each of the first `blocks` blocks has `cycles`."""
    pending = 0
    for i, hidden in enumerate(hides):
        pending = max(pending - hidden, 0)
        pending += cycles if i < blocks else 0
    return pending


def simd_cycles(operations: int, vectors: int) -> int:
    """SIMD operations on so many vectors each, where nothing hides them: each loads its constant first."""
    return operations * (vectors * SIMD_CYCLES + SIMD_READ_CYCLES)


def matrix_cycles(steps: Sequence[MatrixStep], vectors: int, array_size: int, blocks: int = 1) -> int:
    """So many vectors in all, of so many blocks, through the steps.

    Each step loads its rows once, or for each block where it has words for each channel, and waits for the array's
    drain before: counted are the drains beside the one that the result's move waits for whatever the steps are.
    """
    drain, tile = drain_cycles(array_size), array_size + 1
    cycles = 0
    for step in steps:
        cycles += vectors
        match step:
            case AddWord():
                cycles += drain + load_cycles(1)
            case ChannelAddWord():
                cycles += (drain + load_cycles(1)) * blocks
            case Diagonal():
                cycles += drain - 1 + vectors + STORE_CYCLES * blocks + tile
            case ChannelDiagonal():
                cycles += drain - 1 + vectors + STORE_CYCLES * blocks + tile * blocks + drain * (blocks - 1)
            case DiagonalAgain():
                cycles += drain + tile
            case ChannelDiagonalAgain():
                cycles += (drain + tile) * blocks
            case SlopesByMatrix():
                cycles += 3 * drain + load_cycles(1) + 4 * vectors + 2 * (STORE_CYCLES * blocks + tile)
            case AddByMatrix():  # a move waits for the drain, too; but then the step that follows does not
                cycles += 0 if step.moves else drain + tile
    return cycles
