"""What a rewrite of a program on the TCU is, and the loop that runs, verifies and shows rewrites.

A rewrite takes a program in one form (`groups.group_program`, `words.word_program`) to another that computes the same
codes in fewer cycles; in native arithmetic, where sums round, the same but for that rounding. It states what it needs
and what it ensures; where it does not apply to something, it says why to the logger `pefslc.tensil`, at debug level.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Protocol, TypeVar

from pefslc.diagnostics.errors import InternalError
from pefslc.targets.tensil.machine.architecture import Architecture, DataType

__all__ = ["LOG", "Context", "Form", "Rewrite", "require_legal", "rewritten"]

LOG = logging.getLogger("pefslc.tensil")

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Context:
    """What every rewrite may know.

    allow_overflow  bounds of sums do not hold: the user accepts sums that overflow
    left_out        names of rewrites that do not run
    plain_host      the host knows nothing of the program: one pixel a vector, in and out
    dense_inputs    it puts the pixels of inputs one behind the other, without zeros in the lanes left
    at_any_price    what would be bounded is corrected, whatever cycles that takes
    """

    architecture: Architecture
    allow_overflow: bool = False
    left_out: frozenset[str] = frozenset()
    plain_host: bool = False
    dense_inputs: bool = False
    at_any_price: bool = False

    @property
    def data_type(self) -> DataType:
        return self.architecture.data_type

    def runs(self, rewrite: str) -> bool:
        """Whether a rewrite, by name, is among those that run."""
        return rewrite not in self.left_out

    def without(self, *rewrites: str) -> Context:
        """The same without these rewrites."""
        return replace(self, left_out=self.left_out | {*rewrites})


class Rewrite(Protocol[P]):
    """One rewrite. The same program returned means that there was nothing to do."""

    name: ClassVar[str]
    needs: ClassVar[str]
    ensures: ClassVar[str]

    def run(self, program: P, context: Context) -> P:
        """The rewritten program."""
        ...


@dataclass(frozen=True, slots=True)
class Form(Generic[P]):
    """A form of programs: what must hold of it, and how it is printed."""

    faults: Callable[[P, Context], list[str]]
    text: Callable[[P], str]


def rewritten(
    program: P,
    rewrites: Sequence[Rewrite[P]],
    context: Context,
    form: Form[P],
    observe: Callable[[str, P, bool], None] | None = None,
) -> P:
    """The program after those of the rewrites that run, verified after each. `observe` sees name, program, changed."""
    for rewrite in rewrites:
        if not context.runs(rewrite.name):
            LOG.debug("%s: left out", rewrite.name)
            continue
        after = rewrite.run(program, context)
        changed = after is not program
        if changed:
            require_legal(after, f"rewrite {rewrite.name!r}", context, form)
        program = after
        if observe is not None:
            observe(rewrite.name, program, changed)
    return program


def require_legal(program: P, who: str, context: Context, form: Form[P]) -> None:
    """Raise InternalError where a program is not what its form demands."""
    faults = form.faults(program, context)
    if faults:
        raise InternalError(f"{who} left an illegal program: {'; '.join(faults)}")
