"""A greedy descent: tensors give up bits where that costs least, until budgets hold, and get back what is left over.

Knows neither networks nor formats: bits by the name of a tensor, what they cost, and a loss that is measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pefslc.diagnostics.progress import Progress
from pefslc.numeric.choose_format import FEWEST_BITS

__all__ = ["Bits", "Budget", "Descent", "Step", "Trial", "descend"]

Bits = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Budget:
    """A cost that must not exceed a limit.

    name    as the user wrote it
    cost    of bits: what tables show
    excess  of bits: by how much the budget is missed, as a share of the limit, 0 where it holds. It may see more than
            the cost: where that is the largest of many numbers, the sum of all their excesses falls with each of them
    """

    name: str
    cost: Callable[[Bits], float]
    excess: Callable[[Bits], float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A measurement: the loss where `tensor` has `bits`, and all others what they had at step `step` (0: the start)."""

    step: int
    tensor: str
    bits: int
    loss: float


@dataclass(frozen=True, slots=True)
class Step:
    """A tensor got other bits. Costs, one a budget, and loss are those before and after it."""

    tensor: str
    before: int
    after: int
    costs_before: tuple[float, ...]
    costs_after: tuple[float, ...]
    loss_before: float
    loss_after: float


@dataclass(frozen=True, slots=True)
class Descent:
    """What was found, and everything that was tried.

    holds  whether the budgets hold; where not, no tensor can give up a bit that would help
    """

    start: Bits
    start_costs: tuple[float, ...]
    start_loss: float
    bits: Bits
    steps: tuple[Step, ...]
    trials: tuple[Trial, ...]
    holds: bool

    @property
    def costs(self) -> tuple[float, ...]:
        return self.steps[-1].costs_after if self.steps else self.start_costs

    @property
    def loss(self) -> float:
        return self.steps[-1].loss_after if self.steps else self.start_loss


def descend(
    start: Bits,
    budgets: Sequence[Budget],
    loss: Callable[[Bits], float],
    *,
    fewest: int = FEWEST_BITS,
    progress: Progress | None = None,
) -> Descent:
    """Fewer bits than `start`, within the budgets.

    Down: the tensor gives up bits whose gain (of excess) for the loss taken is best, one bit at a time, or more where
    no single bit helps. A move is measured before it is taken; of the others the last measurement stands (lazy greedy,
    Minoux 1978). Where losses of tensors add up, are convex in the bits, and a bit of each tensor gains the same, what
    it finds is the best there is. Then up: a bit goes back, while the budgets hold, to where the loss falls most.

    fewest    bits of a tensor
    loss      of bits; finite, 0 or more
    progress  called with (per mille of the way to the budgets, 1000, text with the time left)

    Ties go to the tensor that comes first in `start`. Where the budgets do not hold with the fewest bits everywhere,
    nothing is measured but the start.
    """
    run = _Run(start, budgets, loss, fewest, progress)
    least = dict.fromkeys(start, fewest)
    if run.excess(run.bits) == 0 or run.excess({t: min(b, least[t]) for t, b in start.items()}) == 0:
        run.down()
    if run.excess(run.bits) == 0:
        run.up()
    return Descent(
        dict(start), run.start_costs, run.start_loss, run.bits, tuple(run.steps), tuple(run.trials),
        run.excess(run.bits) == 0,
    )  # fmt: skip


class _Run:
    def __init__(
        self,
        start: Bits,
        budgets: Sequence[Budget],
        loss: Callable[[Bits], float],
        fewest: int,
        progress: Progress | None,
    ) -> None:
        self.bits, self.most, self.fewest = dict(start), dict(start), fewest
        self.budgets, self.measure, self.progress = budgets, loss, progress
        self.steps: list[Step] = []
        self.trials: list[Trial] = []
        self.start_costs, self.start_loss = self.costs(self.bits), loss(self.bits)
        self.loss = self.start_loss
        self.start_excess, self.started = self.excess(self.bits), time.monotonic()

    def costs(self, bits: Bits) -> tuple[float, ...]:
        return tuple(budget.cost(bits) for budget in self.budgets)

    def excess(self, bits: Bits) -> float:
        return math.fsum(budget.excess(bits) for budget in self.budgets)

    def down(self) -> None:
        rises: dict[tuple[str, int], float] = {}  # of the loss, by the move, as last measured
        while (excess := self.excess(self.bits)) > 0:
            moves = self.moves(excess)
            if not moves:
                return
            fresh: dict[tuple[str, int], float] = {}  # the losses of what was measured in this state
            while True:
                # What was never measured comes first: nothing is known of it.
                best = max(moves, key=lambda move: _worth(moves[move], rises.get(move, -math.inf)))
                if best in fresh:
                    break
                fresh[best] = self.trial(*best)
                rises[best] = fresh[best] - self.loss
            self.take(*best, fresh[best])

    def moves(self, excess: float) -> dict[tuple[str, int], float]:
        """What makes the excess less, with its gain: one bit fewer of a tensor; several where no single bit does."""
        for fewer in range(1, max(self.bits.values()) - self.fewest + 1):
            found = {}
            for tensor, bits in self.bits.items():
                if bits - fewer >= self.fewest:
                    gain = excess - self.excess({**self.bits, tensor: bits - fewer})
                    if gain > 0:
                        found[tensor, bits - fewer] = gain
            if found:
                return found
        return {}

    def up(self) -> None:
        while True:
            found = []
            for tensor, bits in self.bits.items():
                if bits < self.most[tensor] and self.excess({**self.bits, tensor: bits + 1}) == 0:
                    found.append((self.trial(tensor, bits + 1), tensor))
            best = min(found, key=lambda pair: pair[0], default=None)
            if best is None or not best[0] < self.loss:
                return
            self.take(best[1], self.bits[best[1]] + 1, best[0])

    def trial(self, tensor: str, bits: int) -> float:
        found = self.measure({**self.bits, tensor: bits})
        self.trials.append(Trial(len(self.steps), tensor, bits, found))
        if self.progress is not None:
            way = 1 - self.excess(self.bits) / self.start_excess if self.start_excess else 1.0
            costs = "; ".join(f"{b.name} at {c:.4g}" for b, c in zip(self.budgets, self.costs(self.bits), strict=True))
            self.progress(round(1000 * way), 1000, f"{costs}, {len(self.trials)} tried{self.left(way)}")
        return found

    def left(self, way: float) -> str:
        """The time to the budgets, from the way that was made; what comes after them has no measure."""
        if not 0 < way < 1:
            return ""
        seconds = round((time.monotonic() - self.started) * (1 / way - 1))
        return f", {seconds // 60}:{seconds % 60:02} left"

    def take(self, tensor: str, bits: int, loss: float) -> None:
        before, costs = self.bits[tensor], self.costs(self.bits)
        self.bits[tensor] = bits
        self.steps.append(Step(tensor, before, bits, costs, self.costs(self.bits), self.loss, loss))
        self.loss = loss


def _worth(gain: float, rise: float) -> tuple[bool, float]:
    """Larger is better: what costs nothing first, the more the loss falls; then by the gain for what is lost."""
    return (True, -rise) if rise <= 0 else (False, gain / rise)
