"""What the checker says about a program: rules, and findings against them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Finding", "Rule", "distinct", "findings_of"]

_MOST_PER_CHECK = 20


class Rule(Enum):
    """The rules of the machine; the value says what holds in a legal program."""

    INSTRUCTION = "every instruction is one that the RTL executes"
    SIZE = "sizes are below the depths of the memories involved"
    STRIDE = "stride exponents are below the stride depths"
    ADDRESS = "every vector lies within its memory"
    RESERVED = "what the flush probe overwrites holds nothing of the program's"
    CONSTANTS = "constants are never overwritten: they are loaded once"
    SIMD = "no SIMD instruction hangs the RTL or means something else there than in the emulator"
    ACCUMULATOR_HAZARD = "no accumulating write closely follows another one to the same address"
    READ_BEFORE_WRITE = "nothing is read that was not written before"
    OUTPUT = "every output vector is written"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation. `instruction` is its index, or None where no single instruction is at fault."""

    rule: Rule
    message: str
    instruction: int | None = None

    def __str__(self) -> str:
        where = "" if self.instruction is None else f"instruction {self.instruction}: "
        return f"{where}{self.message} [{self.rule.name}]"


def distinct(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Each once, rising. They are few, and np.unique would load numpy.ma: a fiftieth of a short compile."""
    return np.array(sorted(set(rows.tolist())), dtype=np.int64)


def findings_of(rule: Rule, rows: NDArray[np.intp] | NDArray[np.bool_], message: str) -> list[Finding]:
    """A finding for each of the instructions: indices or a mask. After the first 20 comes one that counts the rest."""
    indices = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    found = [Finding(rule, message, int(row)) for row in indices[:_MOST_PER_CHECK]]
    if len(indices) > _MOST_PER_CHECK:
        found.append(Finding(rule, f"{message}: {len(indices) - _MOST_PER_CHECK} more instructions"))
    return found
