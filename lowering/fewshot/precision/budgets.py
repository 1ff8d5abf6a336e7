"""What a budget counts: `bits=3.5`, `activations=4`, `bytes=60000`, `accumulator=14` or `accumulator=custom_perf`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.fewshot.precision.descent import Bits, Budget
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.choose_format import FEWEST_BITS

__all__ = [
    "BudgetKind",
    "BudgetRequest",
    "accumulator_budget",
    "mean_budget",
    "parse_budget",
    "storage_budget",
    "widest_sum",
]

_HINT = (
    "bits=3.5 (of a weight), activations=4, bytes=60000 (of packed weights), accumulator=14, accumulator=custom_perf"
)
_NUMBER = re.compile(r"\d+(\.\d*)?", re.ASCII)
_LARGEST = 1e12
_LEAST = 2.0**-40  # bits: more than nothing


class BudgetKind(StrEnum):
    BITS = "bits"  # of a weight, in the mean
    ACTIVATIONS = "activations"  # of a value that is stored while a picture is computed, in the mean
    BYTES = "bytes"  # of all weights, each layer packed without gaps
    ACCUMULATOR = "accumulator"  # of the widest sum


@dataclass(frozen=True, slots=True)
class BudgetRequest:
    """A budget as the user named it. `limit` is None where it is what the accumulators of the board `board` hold."""

    kind: BudgetKind
    limit: float | None
    board: str = ""

    def __str__(self) -> str:
        return f"{self.kind}={self.board or repr(self.limit).removesuffix('.0')}"


def parse_budget(text: str) -> BudgetRequest:
    """KIND=LIMIT. Raises CompileError."""
    name, equals, value = text.strip().partition("=")
    if name == "cycles":
        raise CompileError(
            Code.BUDGET,
            "fewer bits save no cycles: the TCU multiplies words of one width",
            hint="pruning channels saves cycles: --prune 0.6:12, in multiples of the array's rows",
        )
    known = {str(kind): kind for kind in BudgetKind}
    if name not in known or not equals or not value:
        raise CompileError(Code.BUDGET, f"{quote_given(text)} is no budget", hint=_HINT)
    kind = known[name]
    if kind is BudgetKind.ACCUMULATOR and not _is_number(value):
        return BudgetRequest(kind, None, value)
    limit = float(value) if _NUMBER.fullmatch(value) else math.nan
    if not 1 <= limit <= _LARGEST or (kind in (BudgetKind.ACCUMULATOR, BudgetKind.BYTES) and limit != int(limit)):
        raise CompileError(Code.BUDGET, f"{quote_given(text)}: {value} is no limit", hint=_HINT)
    if kind in (BudgetKind.BITS, BudgetKind.ACTIVATIONS) and limit < FEWEST_BITS:
        raise CompileError(
            Code.BUDGET, f"{quote_given(text)}: a tensor has at least {FEWEST_BITS} bits", hint=f"{kind}={FEWEST_BITS}"
        )
    return BudgetRequest(kind, limit)


def _is_number(text: str) -> bool:
    """Also one that is no limit, such as -3: it is no name of a board."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def mean_budget(name: str, limit: float, counts: Mapping[str, int]) -> Budget:
    """At most `limit` bits a value, in the mean. counts: the values of each tensor that counts."""
    total = sum(counts.values())

    def cost(bits: Bits) -> float:
        return sum(bits[tensor] * count for tensor, count in counts.items()) / total

    return Budget(name, cost, _over(cost, limit))


def storage_budget(name: str, limit: float, counts: Mapping[str, int]) -> Budget:
    """At most `limit` bytes, where each tensor in `counts` is packed without gaps, and begins on a byte."""

    def cost(bits: Bits) -> float:
        return sum((bits[tensor] * count + 7) // 8 for tensor, count in counts.items())

    return Budget(name, cost, _over(cost, limit))


def accumulator_budget(name: str, limit: int, ranges: Callable[[Bits], Mapping[str, tuple[int, int]]]) -> Budget:
    """Every sum in two's complement of `limit` bits. ranges: the proven (lowest, highest) of each sum."""

    def cost(bits: Bits) -> float:
        return widest_sum(ranges(bits))

    def excess(bits: Bits) -> float:
        return math.fsum(_bits_beyond(low, high, limit) for low, high in ranges(bits).values()) / limit

    return Budget(name, cost, excess)


def widest_sum(ranges: Mapping[str, tuple[int, int]]) -> int:
    """Bits of two's complement that hold every sum."""
    return max((bits_for_range(low, high) for low, high in ranges.values()), default=1)


def _over(cost: Callable[[Bits], float], limit: float) -> Callable[[Bits], float]:
    return lambda bits: max(cost(bits) - limit, 0.0) / limit


def _bits_beyond(low: int, high: int, limit: int) -> float:
    """By how many bits low ... high misses `limit`, with fractions, which show a search where it gets less; 0 where it
    fits.
    """
    if bits_for_range(low, high) <= limit:
        return 0.0
    return max(1 + math.log2(max(-low, high + 1)) - limit, _LEAST)  # a float does not tell 2^60 from 2^60 + 1
