"""What is corrected, and at what price: the policy of exactness, in one place.

- A network with a sum wider than a word is exact first, for the sake of its users: it takes more cycles as it is. But
  where exactness takes more than MOST_TIMES the cycles of the program without corrections, that one is kept, which is
  bounded: unless the user says that he pays any price. So it is where corrections leave it bounded.
- A network without one stays as it is where it is bounded; at any price it is corrected, too.
- Where no words come near, a correction is tried before the network is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.targets.tensil.lowered_network import LoweredNetwork
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.wide.corrected import may_be_corrected
from pefslc.targets.tensil.wide.split_sums import is_wide
from pefslc.targets.tensil.words.channel_fits import ChannelFits

__all__ = ["MOST_TIMES", "ExactFirst"]

MOST_TIMES = 4.0

Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class ExactFirst:
    """Lowers a network with the corrections that it is to have.

    lower      (corrections, fits, any_words, quietly): the network with corrections of wide sums and of these
               requantizations of narrow ones; None for no correction at all. Raises CompileError
    retry      called with the reason where the network is lowered again
    cycles     modelled ones; None where the price does not matter
    any_words  whether any words will do that are off by 1 at most
    """

    graph: Graph
    context: Context
    fits: ChannelFits
    lower: Callable[[Names | None, ChannelFits, bool, bool], LoweredNetwork]
    retry: Callable[[str], None]
    cycles: Callable[[LoweredNetwork], int] | None
    any_words: bool

    def run(self) -> LoweredNetwork:
        """The network. Raises CompileError, with every fault, for what cannot be lowered."""
        bits = self.context.data_type.width_bits
        if self.context.allow_overflow or not any(is_wide(op, bits) for op in self.graph.ops):
            return self._exact(wide=False)
        reference = self._reference()
        if reference is not None and self.any_words:
            return reference
        try:
            exact = self._exact(wide=True)
        except CompileError as error:
            if reference is None:
                raise
            self.retry(f"without corrections: with them, {error}")
            return self._lower(None)
        if reference is None or not exact.split.wide.corrections or self.context.at_any_price or self.cycles is None:
            return exact
        times = self.cycles(exact) / self.cycles(reference)
        if _bounded(exact):
            if times <= 1:
                return exact
            self.retry("without corrections: with them, it is bounded, too")
            return self._lower(None)
        if times <= MOST_TIMES:
            return exact
        self.retry(f"without corrections: with them, it takes {times:.1f} times the cycles")
        return replace(self._lower(None), times_for_exact=times)

    def _reference(self) -> LoweredNetwork | None:
        """About the program without corrections, by a short look; None where it has no place without them. Raises
        CompileError where they cannot help, either: before anything is searched.
        """
        fits = self.fits.again()
        try:
            return self.lower(None, fits, True, True)
        except CompileError as refusal:
            has_no_words = any(problem.code is Code.ACCUMULATOR_OVERFLOW for problem in refusal.problems)
            if has_no_words or not all(map(may_be_corrected, self._requantizations(fits.refused))):
                raise
            LOG.debug("no place without corrections: %s", refusal)
            return None

    def _exact(self, *, wide: bool) -> LoweredNetwork:
        try:
            lowered = self._lower(frozenset())
        except CompileError as refusal:
            return self._with_refused(refusal)
        bounded = _bounded(lowered)
        if self.any_words or not bounded or not (wide or self.context.at_any_price):
            return lowered
        self.retry(f"with corrections of {', '.join(sorted(bounded))}: they are bounded")
        try:
            return self._lower(bounded)
        except CompileError as error:
            self.retry(f"without corrections: with them, {error}")
            return lowered

    def _with_refused(self, refusal: CompileError) -> LoweredNetwork:
        """With corrections where no words were found that come near; raises `refusal` where that does not help.

        Behind a group that has no place only a short look is taken, which may miss that another has none, either: so
        the more are found, the more are corrected.
        """
        before: Names = frozenset()
        while True:
            refused = self._requantizations(self.fits.refused)
            names = frozenset(op.result.name for op in refused)
            if self.context.allow_overflow or names <= before or not all(map(may_be_corrected, refused)):
                raise refusal
            self.retry(f"with corrections of {', '.join(sorted(names))}: without them, {refusal}")
            try:
                return self._lower(names)
            except CompileError as error:
                LOG.debug("corrections do not help: %s", error)
                before = names

    def _requantizations(self, names: set[str]) -> list[Requantize]:
        return [op for op in self.graph.of_type(Requantize) if op.result.name in names]

    def _lower(self, corrections: Names | None) -> LoweredNetwork:
        return self.lower(corrections, self.fits, self.any_words, False)


def _bounded(lowered: LoweredNetwork) -> Names:
    """The requantizations that may be off."""
    return frozenset(name for outcome in lowered.program.outcomes for name in outcome.bounded)
