"""What happens to a number between the loop that makes it and memory: requantize, clamp, rescale, add and so on.

A step has a list of such stages, which follow one root: a convolution, a pool, a tensor. Each stage knows the exact
range of its result, hence the type in which it computes, and writes one line of C that calls the functions of fixed.h.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import element_count
from pefslc.ir.integer import Clamp, Product, Rescale, Sum
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.affine_shift import AffineShift
from pefslc.numeric.half_even import HalfEvenLine
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.wide import WideAffine
from pefslc.targets.c.storage import INT64, CType, Tensor, narrowest_signed, sum_type

__all__ = [
    "AddStage", "AffineStage", "BentStage", "ClampStage", "ConstantArray", "HalfEvenStage", "LineWriter",
    "MultiplyStage", "Range", "ScaleStage", "Stage", "WideStage", "cast", "combining_stage", "literal",
    "multiplication_stage",
]  # fmt: skip

Range = tuple[int, int]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ConstantArray:
    """A constant of the weights file, in any integer type that holds its numbers, at a multiple of `aligned` bytes."""

    name: str
    type: CType
    data: NDArray[np.integer]
    what: str
    aligned: int = 0

    @property
    def bytes(self) -> int:
        return int(self.data.size) * self.type.bytes

    @property
    def most_bytes(self) -> int:
        """Where weights are wide."""
        return self.bytes * (2 if self.type.alias else 1)


@dataclass
class LineWriter:
    """Writes the lines of one chain; `c` is the channel's index in them. `constants` collects what they read.

    prefix    of the arrays' names
    element   the C expression of the element's index in the result
    added     the C pointers of the tensors that AddStages read, in order
    helpers   templates of the C functions that the lines call, beside those of fixed.h
    """

    prefix: str
    element: str
    added: list[str]
    lines: list[str] = field(default_factory=list)
    constants: list[ConstantArray] = field(default_factory=list)
    count: int = 0
    uses_channel: bool = False
    helpers: set[str] = field(default_factory=set)

    def define(self, kind: CType, expression: str) -> str:
        """Append `const kind vN = expression;` and return vN."""
        name = f"v{self.count}"
        self.count += 1
        self.lines.append(f"const {kind} {name} = {expression};")
        return name

    def array(self, suffix: str, kind: CType, data: Codes, what: str) -> str:
        """Add a constant array and return its name."""
        name = f"{self.prefix}_{suffix}{len(self.constants)}"
        self.constants.append(ConstantArray(name, kind, data, what))
        return name

    def per_channel(self, suffix: str, data: Codes, what: str, kind: CType) -> str:
        """An expression for data[channel]: a literal where all entries are equal."""
        if (data == data[0]).all():
            return literal(int(data[0]), kind)
        name = self.array(suffix, narrowest_signed(data), data, what)
        self.uses_channel = True
        return f"{name}[c]"


def literal(value: int, kind: CType) -> str:
    """`value` as a C constant of type `kind` (int32_t or int64_t)."""
    if value == -(1 << (kind.bits - 1)):
        return f"INT{kind.bits}_MIN"
    if kind.bits == 64 and bits_for_range(value, value) > 32:
        return f"INT64_C({value})"
    return str(value) if bits_for_range(value, value) <= 16 else f"INT32_C({value})"


def cast(name: str, have: CType, want: CType) -> str:
    """`name` converted to `want`, which holds its value."""
    return name if have == want else f"({want}){name}"


@dataclass(frozen=True, slots=True)
class Stage(ABC):
    """One step on a number in `operand`, giving one in `result`; both proven."""

    operand: Range
    result: Range

    @property
    @abstractmethod
    def report(self) -> str:
        """How, in a few words."""

    @abstractmethod
    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        """Append the C lines; from the operand's name and type to the result's."""


@dataclass(frozen=True, slots=True)
class ClampStage(Stage):
    low: int
    high: int

    @classmethod
    def of(cls, op: Clamp, operand: Range) -> ClampStage:
        codes = op.result.type.codes
        return cls(operand, (codes.low, codes.high), op.low, op.high)

    @property
    def report(self) -> str:
        return "clamp"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        low, high = (min(max(end, self.low), self.high) for end in self.operand)
        wide = sum_type(min(self.operand[0], low), max(self.operand[1], high))
        return _clamp(to, cast(name, kind, wide), wide, self.operand, low, high)


@dataclass(frozen=True, slots=True)
class ScaleStage(Stage):
    factor: int

    @classmethod
    def of(cls, op: Rescale, operand: Range) -> ScaleStage:
        codes = op.result.type.codes
        return cls(operand, (codes.low, codes.high), op.factor)

    @property
    def report(self) -> str:
        return f"multiply by {self.factor}"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        wide = sum_type(*_hull(self.operand, self.result))
        return to.define(wide, f"{cast(name, kind, wide)} * {literal(self.factor, wide)}"), wide


@dataclass(frozen=True, slots=True)
class AddStage(Stage):
    """Adds `factor` times the same element of another tensor."""

    other: Tensor
    factor: int

    @property
    def report(self) -> str:
        return "add"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        wide = sum_type(*_hull(self.operand, self.result, _scaled(self.other, self.factor)))
        added = f"({wide}){to.added.pop(0)}[{to.element}]"
        if self.factor != 1:
            added += f" * {literal(self.factor, wide)}"
        return to.define(wide, f"{cast(name, kind, wide)} + {added}"), wide


@dataclass(frozen=True, slots=True)
class MultiplyStage(Stage):
    """Multiplies by `factor` times the same element of another tensor, or that of image and channel in a smaller one.

    gate  None, or (images, elements of an image, channels) where `other` holds one number for each channel
    """

    other: Tensor
    factor: int
    gate: tuple[int, int, int] | None

    @property
    def report(self) -> str:
        return "multiply" if self.gate is None else "multiply per channel"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        wide = sum_type(*_hull(self.operand, self.result, _scaled(self.other, self.factor)))
        element = to.element
        if self.gate is not None:
            images, size, channels = self.gate
            to.uses_channel = True
            element = "c" if images == 1 else f"({element}) / {size} * {channels} + c"
        other = f"({wide}){to.added.pop(0)}[{element}]"
        if self.factor != 1:
            other = f"({other} * {literal(self.factor, wide)})"
        return to.define(wide, f"{cast(name, kind, wide)} * {other}"), wide


@dataclass(frozen=True, slots=True)
class AffineStage(Stage):
    """A certified multiply, add, shift, clamp."""

    affine: AffineShift

    @property
    def report(self) -> str:
        return str(self.affine) + (", clip" if self.affine.clamps else "")

    @property
    def kind(self) -> CType:
        """int32_t where every product, sum and rounding fits."""
        a = self.affine
        ends = [v * m for m in a.multiplier.tolist() for v in (a.domain_low, a.domain_high)]
        offsets = [*a.offset.tolist(), a.low, a.high, a.domain_low, a.domain_high]
        return sum_type(*_hull(a.numerators, (min(ends), max(ends)), (min(offsets), max(offsets) + (1 << a.shift))))

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        a, wide = self.affine, self.kind
        expression = cast(name, kind, wide)
        if (a.multiplier != 1).any():
            factors = to.per_channel("multiplier", a.multiplier, "requantization: multipliers", wide)
            expression += f" * {factors}"
        if (a.offset != 0).any():
            offsets = to.per_channel("offset", a.offset, "requantization: offsets", wide)
            expression += f" + {offsets}"
        if a.shift:
            function = "half_even_shift" if a.rounding is RoundingMode.HALF_EVEN else "floor_shift"
            expression = f"pefslc_{function}_{wide.bits}({expression}, {a.shift})"
        low, high = a.numerators
        shifted = (low >> a.shift, -(-high >> a.shift))  # a hull of the rounded numerators
        clipped = (a.low, a.high) if a.clamps else shifted
        if a.clamps:
            name, kind = _clamp(to, expression, wide, shifted, a.low, a.high)
        else:
            name, kind = to.define(wide, expression), wide
        narrow = sum_type(*_hull(self.result, clipped if a.clamps else self.result))
        if narrow != kind:
            return to.define(narrow, f"({narrow}){name}"), narrow
        return name, kind


@dataclass(frozen=True, slots=True)
class WideStage(Stage):
    """A certified multiply, add, shift, clamp whose products have several words."""

    wide: WideAffine

    @property
    def report(self) -> str:
        return f"{self.wide}, clip"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        w = self.wide
        word, total = cast(name, kind, INT64), ""
        for i, (factors, addends) in enumerate(zip(w.multipliers, w.offsets, strict=True)):
            part = "high words" if i == w.words - 1 else "low words" if i == 0 else f"words {i}"
            factor = to.per_channel("multiplier", factors, f"requantization: multipliers, {part}", INT64)
            addend = to.per_channel("offset", addends, f"requantization: offsets, {part}", INT64)
            carry = f" + pefslc_floor_shift_64({total}, {w.word_bits})" if total else ""
            total = to.define(INT64, f"{word} * {factor} + {addend}{carry}")
        low, high = (end >> w.last_shift for end in w.numerators)
        name, kind = _clamp(to, f"pefslc_floor_shift_64({total}, {w.last_shift})", INT64, (low, high), w.low, w.high)
        narrow = sum_type(w.low, w.high)
        return (name, kind) if narrow == kind else (to.define(narrow, f"({narrow}){name}"), narrow)


@dataclass(frozen=True, slots=True)
class HalfEvenStage(Stage):
    """A certified multiplication, and 1 less where the operand is on a tie and the result odd."""

    half_even: HalfEvenLine

    @property
    def report(self) -> str:
        return str(self.half_even)

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        h = self.half_even
        found, found_kind = multiplication_stage(h.line, self.operand, self.result).write(to, name, kind)
        ends = [a * n + b for n, b in zip(h.numerator.tolist(), h.addend.tolist(), strict=True) for a in self.operand]
        products = [a * n for n in h.numerator.tolist() for a in self.operand]
        bounds = [code * d for d in h.denominator.tolist() for code in (h.line.low, h.line.high)]
        wide = sum_type(*_hull(*((v, v) for v in (*ends, *products, *bounds, *h.addend.tolist()))))
        factor = to.per_channel("numerator", h.numerator, "requantization: the exact slope's numerators", wide)
        addend = to.per_channel("addend", h.addend, "requantization: the exact offset's numerators", wide)
        unit = to.per_channel("denominator", h.denominator, "requantization: the exact line's denominators", wide)
        at = f"{cast(name, kind, wide)} * {factor} + {addend} == {cast(found, found_kind, wide)} * {unit}"
        odd = f"({found} & 1) {'==' if h.odd else '!='} 0"
        above = f"{found} > {literal(h.line.low, found_kind)}"
        return to.define(found_kind, f"{found} - ({at} && {odd} && {above} ? 1 : 0)"), found_kind


@dataclass(frozen=True, slots=True)
class BentStage(Stage):
    """The sum of two certified ones: one slope below code 0, another above."""

    lower: AffineStage | WideStage | HalfEvenStage
    upper: AffineStage | WideStage | HalfEvenStage

    @property
    def report(self) -> str:
        return f"bent at 0: {self.lower.report} below, {self.upper.report} above"

    def write(self, to: LineWriter, name: str, kind: CType) -> tuple[str, CType]:
        below, below_kind = self.lower.write(to, name, kind)
        above, above_kind = self.upper.write(to, name, kind)
        wide = max(below_kind, above_kind)
        return to.define(wide, f"{cast(below, below_kind, wide)} + {cast(above, above_kind, wide)}"), wide


def multiplication_stage(
    found: AffineShift | WideAffine | HalfEvenLine, operand: Range, result: Range
) -> AffineStage | WideStage | HalfEvenStage:
    """The stage of a certified line."""
    match found:
        case HalfEvenLine():
            return HalfEvenStage(operand, result, found)
        case WideAffine():
            return WideStage(operand, result, found)
        case AffineShift():
            return AffineStage(operand, result, found)


def combining_stage(op: Sum | Product, operand: Range, other: Tensor, factor: int = 1) -> AddStage | MultiplyStage:
    """What a sum or product does to its one operand; the other is `factor` times what lies in memory."""
    codes, shape = op.result.type.codes, op.result.type.shape
    result = (codes.low, codes.high)
    if isinstance(op, Sum):
        return AddStage(operand, result, other, factor)
    gate = None if other.shape == shape else (shape[0], element_count(shape[1:]), shape[1])
    return MultiplyStage(operand, result, other, factor, gate)


def _clamp(to: LineWriter, expression: str, kind: CType, have: Range, low: int, high: int) -> tuple[str, CType]:
    """min(max(expression, low), high), without the halves that `have` makes idle."""
    if have[0] >= low and have[1] <= high:
        return to.define(kind, expression), kind
    return to.define(kind, f"pefslc_clamp_{kind.bits}({expression}, {literal(low, kind)}, {literal(high, kind)})"), kind


def _scaled(tensor: Tensor, factor: int) -> Range:
    """The range of `factor` times its codes, those among them."""
    ends = tensor.low, tensor.high, tensor.low * factor, tensor.high * factor
    return min(ends), max(ends)


def _hull(*ranges: Range) -> Range:
    return min(r[0] for r in ranges), max(r[1] for r in ranges)
