"""Stages that look a staircase up: tables of codes, of thresholds, of a function's polynomials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.integer import Lookup
from pefslc.numeric.polynomial import PiecewisePolynomial
from pefslc.numeric.shared import SharedTable
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.tied_polynomial import TiedPolynomial
from pefslc.targets.c.stages import LineWriter, Range, Stage, WideStage, cast, literal
from pefslc.targets.c.storage import INT32, INT64, CType, narrowest, sum_type

__all__ = ["LookupStage", "PolynomialStage", "SharedTableStage", "TableStage", "TiedPolynomialStage"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LookupStage(Stage):
    """Reads the result from a table [channels or 1, codes of the operand]."""

    table: Codes

    @classmethod
    def of(cls, op: Lookup, operand: Range) -> LookupStage:
        codes = op.result.type.codes
        return cls(operand, (codes.low, codes.high), op.table.data[:, operand[0] - op.low : operand[1] - op.low + 1])

    @property
    def report(self) -> str:
        each = f" for each of {len(self.table)} channels" if len(self.table) > 1 else ""
        return f"table of {self.table.shape[1]} codes{each}"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        low, high = int(self.table.min()), int(self.table.max())
        out = sum_type(low, high)
        table = to.array("table", narrowest(low, high), self.table.reshape(-1), "result codes by operand code")
        index = cast(name, kind, INT32) if INT32.holds(*self.operand) else name
        if self.operand[0]:
            wide = INT32 if INT32.holds(*self.operand) and INT32.holds(-self.operand[0], 0) else INT64
            index = f"{cast(name, kind, wide)} - {literal(self.operand[0], wide)}"
        if len(self.table) > 1:
            to.uses_channel = True
            index = f"c * {self.table.shape[1]} + ({index})"
        return to.define(out, f"{table}[{index}]"), out


@dataclass(frozen=True, slots=True)
class TableStage(Stage):
    """Counts the thresholds that are reached, by bisection: any staircase."""

    staircase: Staircase

    @property
    def steps(self) -> int:
        return self.staircase.steps

    @property
    def report(self) -> str:
        each = f" for each of {self.staircase.channels} channels" if self.staircase.channels > 1 else ""
        return f"table of {self.steps} thresholds{each}"

    @property
    def kind(self) -> CType:
        # A falling channel is searched in the mirror: the negated numbers must fit too, thresholds one code beyond.
        low, high = self.staircase.domain_low - 1, self.staircase.domain_high + 1
        return sum_type(min(low, -high), max(high, -low))

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        s, wide = self.staircase, self.kind
        out = sum_type(s.low, s.high)
        if not self.steps:
            to.lines.append(f"(void){name};")
            return to.define(out, literal(s.low, out)), out
        mirrored = s.thresholds * s.direction[:, None]
        table = to.array("threshold", wide, mirrored.reshape(-1), "requantization: thresholds, ascending per channel")
        expression = cast(name, kind, wide)
        if (s.direction != 1).any():
            signs = to.per_channel("direction", s.direction, "requantization: 1 rises, -1 falls", wide)
            expression = f"{expression} * {signs}"
        row = f"{table} + c * {self.steps}" if s.channels > 1 else table
        to.uses_channel |= s.channels > 1
        taken = to.define(INT32, f"pefslc_steps_{wide.bits}({expression}, {row}, {self.steps})")
        factor = "" if s.step == 1 else f" * {s.step}"
        return to.define(out, f"{literal(s.low, out)} + {cast(taken, INT32, out)}{factor}"), out


@dataclass(frozen=True, slots=True)
class SharedTableStage(Stage):
    """Counts the thresholds that a certified line per channel reaches: one table for all channels."""

    table: SharedTable

    @property
    def report(self) -> str:
        return f"multiply-add per channel, table of {len(self.table.thresholds)} thresholds for all channels"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        t, out = self.table, sum_type(self.table.low, self.table.high)
        factor = to.per_channel("multiplier", t.multiplier, "requantization: multipliers", INT64)
        addend = to.per_channel("offset", t.offset, "requantization: offsets", INT64)
        table = to.array("threshold", INT64, t.thresholds, "requantization: thresholds, ascending")
        argument = f"{cast(name, kind, INT64)} * {factor} + {addend}"
        taken = to.define(INT32, f"pefslc_steps_64({argument}, {table}, {len(t.thresholds)})")
        return to.define(out, f"{literal(t.low, out)} + {cast(taken, INT32, out)}"), out


@dataclass(frozen=True, slots=True)
class PolynomialStage(Stage):
    """Multiplies and adds per channel, then evaluates one of a function's polynomials: certified."""

    polynomial: PiecewisePolynomial

    @property
    def report(self) -> str:
        p = self.polynomial
        return f"{p.line}, {p.segments} polynomials of degree {p.degree}"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        return self.write_with_argument(to, name, kind)[:2]

    def write_with_argument(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType, str]:
        """Besides, the name of the polynomials' argument."""
        p, out = self.polynomial, sum_type(*self.result)
        argument, wide = WideStage(self.operand, (p.line.low, p.line.high), p.line).write(to, name, kind)
        what = f"requantization: {p.segments} polynomials of degree {p.degree}"
        table = to.array("polynomial", INT64, p.coefficients.reshape(-1), what)
        to.helpers.add("polynomial")
        value = to.define(
            INT64, f"pefslc_polynomial({cast(argument, wide, INT64)}, {table}, {p.degree}, {p.segment_bits})"
        )
        taken = to.define(out, f"({out})pefslc_floor_shift_64({value}, {p.fraction_bits})")
        return to.define(out, f"{literal(p.low, out)} + {taken}"), out, argument


@dataclass(frozen=True, slots=True)
class TiedPolynomialStage(Stage):
    """Polynomials that take all ties up, and 1 less where the operand is on a tie and the result odd."""

    tied: TiedPolynomial

    @property
    def report(self) -> str:
        return f"{PolynomialStage(self.operand, self.result, self.tied.polynomial).report}, ties to even"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        t, p = self.tied, self.tied.polynomial
        found, out, argument = PolynomialStage(self.operand, self.result, p).write_with_argument(to, name, kind)
        rows = np.concatenate([t.border[:, None], t.denominator[:, None], t.numerators.reshape(t.channels, -1)], axis=1)
        table = to.array("tie", INT64, rows.reshape(-1), "requantization: border, denominator and numerators of ties")
        if t.channels > 1:
            to.uses_channel = True
            table = f"{table} + c * {rows.shape[1]}"
        to.helpers.add("tie")
        taken = f"(int64_t){found} - {literal(p.low, INT64)}"
        at = f"pefslc_is_on_tie({cast(name, kind, INT64)}, {taken}, {table})"
        inside = f"{argument} > {literal(p.line.low, INT64)} && {argument} < {literal(p.line.high, INT64)}"
        odd = f"({found} & 1) {'==' if t.odd else '!='} 0"
        return to.define(out, f"{found} - ({inside} && {odd} && {at} ? 1 : 0)"), out
