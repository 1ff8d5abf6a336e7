"""Which output blocks of a pass take SIMD steps, and which matrix steps: by cost.

SIMD operations of a block run in the gaps of the following blocks' tiles: in the drain before each LoadWeights, and
behind DRAM reads. The last blocks have no such gaps, so matrix steps (`matrix_steps`) are shorter there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pefslc.targets.tensil.emitter import SIMD_CYCLES
from pefslc.targets.tensil.matrix_steps import AddWord, MatrixStep

__all__ = ["Choice", "choose", "matrix_cycles"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Output blocks before `first`, by their place in the pass, take SIMD steps, the others the matrix steps `plan`.

    floors  the sums carry the constant of the plan's first step (`weights.with_floor`): that step is left out
    """

    plan: tuple[MatrixStep, ...]
    first: int
    floors: bool

    @property
    def steps(self) -> tuple[MatrixStep, ...]:
        """The matrix steps that are left to do."""
        return self.plan[1:] if self.floors else self.plan


def choose(
    plan: tuple[MatrixStep, ...], operations: int, vectors: int, hides: Sequence[int], array_size: int, *, floors: bool
) -> Choice | None:
    """The cheapest choice; None where that is SIMD everywhere.

    operations  SIMD operations a vector
    vectors     in one output block
    hides       per output block, the cycles of SIMD that its tiles hide
    """
    blocks = len(hides)
    costs = [_exposed(operations * vectors * SIMD_CYCLES, hides, blocks)]
    choice = Choice(plan, 0, floors and isinstance(plan[0], AddWord))
    for count in range(1, blocks + 1):
        by_matrix = matrix_cycles(choice.steps, count * vectors, array_size)
        costs.append(_exposed(operations * vectors * SIMD_CYCLES, hides, blocks - count) + by_matrix)
    best = min(range(blocks + 1), key=lambda count: (costs[count], count))
    return Choice(plan, blocks - best, choice.floors) if best else None


def _exposed(cycles: int, hides: Sequence[int], blocks: int) -> int:
    """Cycles of SIMD that nothing hides, where each of the first `blocks` blocks has `cycles`."""
    pending = 0
    for i, hidden in enumerate(hides):
        pending = max(pending - hidden, 0)
        pending += cycles if i < blocks else 0
    return pending


def matrix_cycles(steps: Sequence[MatrixStep], vectors: int, array_size: int) -> int:
    """A cycle a vector each, two for a diagonal with its move; its rows, and the drain of the array."""
    drain, rows = 2 * array_size, array_size + 1
    return sum(vectors + drain + (1 if isinstance(step, AddWord) else rows + vectors) for step in steps)
