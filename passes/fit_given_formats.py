"""--formats on a float model: formats by name, and beside them formats from data that fit the target's accumulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.ir.graph import Graph
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import CalibratedFormats, Widths
from pefslc.passes.fit_accumulators import FittedFormats, fit_signs, never_negative_sites
from pefslc.passes.given_format import GivenFormat
from pefslc.passes.input_formats import InputFormats
from pefslc.passes.manager import Pass
from pefslc.passes.quantize_after_training import FormatPlan, codes_name, weight_codes_name

__all__ = ["FittedGivenFormats", "GivenFormats"]


@dataclass(frozen=True, slots=True, eq=False)
class GivenFormats:
    """What --formats says of one model. A float model has `activations` and `weights`, a quantized one the others.

    activations  by the name of the tensor (`quantization_sites`)
    weights      by the name of the result of the Conv or Linear that reads them
    balanced     of these layers the weights that are nearly halfway are rounded so that errors cancel (`round_weights`)
    asserted     of a quantized model, by the name of a quantizer's result
    filled       of a quantized model, the inputs that it leaves open, by their names
    data         on which binary points are chosen; None where there is none to choose
    """

    activations: Mapping[str, GivenFormat] = field(default_factory=dict)
    weights: Mapping[str, GivenFormat] = field(default_factory=dict)
    balanced: frozenset[str] = frozenset()
    asserted: Mapping[str, GivenFormat] = field(default_factory=dict)
    filled: Mapping[str, FixedPoint] = field(default_factory=dict)
    data: CalibratedFormats | None = None

    @property
    def asked_bits(self) -> dict[str, int]:
        """Of what data chooses: the width that was asked for, by the name of the quantizer's result."""
        activations = {codes_name(name): bits for name, bits in _asked(self.activations).items()}
        return activations | {weight_codes_name(name): bits for name, bits in _asked(self.weights).items()}


@dataclass(frozen=True, slots=True, eq=False)
class FittedGivenFormats:
    """What is named has that format; what has a width alone gets its binary point from data, and fewer bits where the
    target's accumulator forces them.

    A named format is never narrowed. Where the entry says nothing of signs, Qm.n is UQm.n behind a ReLU, if that fits.

    to_integer  the passes that lower a quantized graph
    narrow      whether what data chooses may have fewer bits than asked
    """

    given: GivenFormats
    limits: TargetLimits
    to_integer: Sequence[Pass]
    narrow: bool = True
    input_fmt: InputFormats = None

    def plan(self, graph: Graph) -> FormatPlan:
        self._refuse_unusable(graph)
        may_be = frozenset(
            name
            for name, given in self.given.activations.items()
            if isinstance(given.fmt, FixedPoint) and not given.exactly and given.fmt.bits < self.limits.accumulator_bits
        )
        unsigned = never_negative_sites(graph) & may_be
        if unsigned:
            unsigned = fit_signs(
                lambda names: self._plan(graph, names, narrow=False), graph, unsigned, self.limits, self.to_integer
            )
        return self._plan(graph, unsigned, narrow=self.narrow)

    def _plan(self, graph: Graph, unsigned: frozenset[str], *, narrow: bool) -> FormatPlan:
        named = FormatPlan(
            {
                name: replace(fmt, signed=fmt.signed and name not in unsigned).quantization
                for name, fmt in _named(self.given.activations).items()
            },
            {name: fmt.quantization for name, fmt in _named(self.given.weights).items()},
            balanced=self.given.balanced,
        )
        if self.given.data is None:
            return named.with_inputs(graph, self.input_fmt)
        asked = Widths(_asked(self.given.activations), _asked(self.given.weights))
        formats = replace(self.given.data, asked=asked, named=named, input_fmt=self.input_fmt)
        return (FittedFormats(formats, self.limits, self.to_integer) if narrow else formats).plan(graph)

    def _refuse_unusable(self, graph: Graph) -> None:
        """Raise CompileError for weights without a sign, and for formats of one bit."""
        origins = {op.result.name: op.result.origin for op in graph.ops}
        problems = [
            Problem(
                Code.BAD_FORMAT,
                f"{given.where}: {what} of a float model cannot be quantized to {given.fmt.describe()}",
                at=origins.get(name),
                hint="name a signed format of at least 2 bits, for example Q3.4",
            )
            for what, formats in (("weights", self.given.weights), ("values", self.given.activations))
            for name, given in formats.items()
            if isinstance(given.fmt, FixedPoint)
            and (given.fmt.bits < 2 or (what == "weights" and not given.fmt.signed))
        ]
        if problems:
            raise CompileError.of(problems)


def _named(given: Mapping[str, GivenFormat]) -> dict[str, FixedPoint]:
    return {name: g.fmt for name, g in given.items() if isinstance(g.fmt, FixedPoint)}


def _asked(given: Mapping[str, GivenFormat]) -> dict[str, int]:
    return {name: g.fmt.bits for name, g in given.items() if isinstance(g.fmt, AutoFormat)}
