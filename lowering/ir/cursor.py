"""Reading one line of the IR's text: names, types, numbers. Every fault says the line and what was expected there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, quote
from pefslc.ir.text import BARE_NAME
from pefslc.ir.value import CodeRange, Element, Real, TensorType, Value
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale

__all__ = ["Constant", "Constants", "Cursor"]

_T = TypeVar("_T")
_Number = TypeVar("_Number", np.int64, np.float64)
# What a name such as @c0 stands for: an array, or exact rationals.
Constant = NDArray[np.generic] | tuple[Fraction, ...]
Constants = Mapping[str, Constant]

_INTEGER = re.compile(r"-?\d+", re.ASCII)
_FLOAT = re.compile(r"-?(?:inf|nan|\d[\d.]*(?:e[+-]?\d+)?)", re.ASCII)
_RATIONAL = re.compile(r"(-?\d+)(?:/(\d+)|\*2\^(-?\d+))?", re.ASCII)
_POWER = re.compile(r"2\^(-?\d+)", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD = re.compile(r"[a-z_]+[a-z0-9_]*", re.ASCII)
_CONSTANT = re.compile(r"@c\d+", re.ASCII)
_FIXED_POINT = re.compile(r"(U?)Q(-?\d+)\.(-?\d+)(n?)", re.ASCII)
_GRID = re.compile(r"([iu])(\d+)(n?)(?:\+(-?\d+))?\*\(", re.ASCII)


class Cursor:
    """A position in one line of text, the constants that it may name, and the values defined before it."""

    def __init__(self, number: int, text: str, constants: Constants) -> None:
        self.number, self.text, self.position = number, text, 0
        self.constants = constants
        self.values: dict[str, Value] = {}

    # --- characters ----------------------------------------------------------------------------------------------

    def fault(self, message: str, hint: str | None = None) -> CompileError:
        return CompileError(Code.IR_TEXT, f"line {self.number}: {message}", hint=hint)

    def expected(self, what: str) -> CompileError:
        rest = self.text[self.position :].strip()
        return self.fault(f"expected {what}, found {quote(rest[:40]) if rest else 'the end of the line'}")

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        while self.text[self.position : self.position + 1] == " ":
            self.position += 1
        found = pattern.match(self.text, self.position)
        if found is not None:
            self.position = found.end()
        return found

    def at(self, text: str) -> bool:
        return self.text[self.position :].lstrip(" ").startswith(text)

    def at_number(self) -> bool:
        return re.match(r" *-?\d", self.text[self.position :], re.ASCII) is not None

    def accept(self, text: str) -> bool:
        return self.match(re.compile(re.escape(text.lstrip(" ")))) is not None

    def literal(self, text: str, what: str | None = None) -> None:
        if not self.accept(text):
            raise self.expected(what or repr(text))

    def end(self) -> None:
        if self.text[self.position :].strip():
            raise self.expected("the end of the line")

    def choice(self, table: Mapping[str, _T], what: str) -> _T:
        start = self.position
        found = self.match(_WORD)
        if found is None or found[0] not in table:
            self.position = start
            raise self.expected(what)
        return table[found[0]]

    # --- names ---------------------------------------------------------------------------------------------------

    def string(self) -> str:
        found = self.match(_STRING)
        if found is None:
            raise self.expected("a name in double quotes")
        try:
            return cast(str, json.loads(found[0]))
        except ValueError:
            raise self.fault(f"{quote(found[0])} is no legal text") from None

    def word(self) -> str:
        found = self.match(BARE_NAME)
        return found[0] if found is not None else self.string()

    def reference(self) -> Value:
        self.literal("%", "a value: %name")
        name = self.word()
        if name not in self.values:
            raise self.fault(f"%{quote(name)[1:-1]} is not defined before this line")
        return self.values[name]

    def definition(self) -> tuple[str, TensorType]:
        self.literal("%", "%name: type")
        name = self.word()
        self.literal(":")
        element = self.element()
        return name, TensorType(self.shape(), element)

    def define(self, value: Value) -> None:
        if value.name in self.values:
            raise self.fault(f"%{quote(value.name)[1:-1]} is defined twice")
        self.values[value.name] = value

    def origin(self) -> Origin:
        """The origin, which ends the line."""
        self.literal("//", "// and the origin: node (operator) tensor")
        node = "" if self.at("(") else self.word()
        self.literal("(")
        op_type = self.word()
        self.literal(")")
        tensor = self.word() if self.position < len(self.text) else ""
        self.end()
        return Origin(node, op_type, tensor)

    # --- types ---------------------------------------------------------------------------------------------------

    def element(self) -> Element:
        if self.accept("real"):
            return Real()
        if self.accept("["):
            low, high = self.range()
            self.literal("]")
            zero_point = self.integer() if self.accept("+") else 0
            self.literal("*(")
            return CodeRange(low=low, high=high, scale=self.scale(), zero_point=zero_point)
        quantization = self.quantization()
        if quantization is None:
            raise self.expected("a type: real, a format such as Q2.3, or [low..high]*(scale)")
        return quantization

    def quantization(self) -> Quantization | None:
        if (found := self.match(_FIXED_POINT)) is not None:
            whole, fraction = self.short(found[2], 5, "a format's number"), self.short(found[3], 5, "a format's number")
            bits, scale = whole + fraction, Scale.power_of_two(-fraction)
            signed, narrow, zero_point = not found[1], bool(found[4]), 0
        elif (found := self.match(_GRID)) is not None:
            bits, scale = self.short(found[2], 2, "the bit width"), self.scale()
            signed, narrow, zero_point = (
                found[1] == "i",
                bool(found[3]),
                self.short(found[4] or "0", 20, "a zero point"),
            )
        else:
            return None
        if bits < 1:
            raise self.fault(f"a format of {bits} bits")
        return Quantization(bits=bits, signed=signed, scale=scale, narrow=narrow, zero_point=zero_point)

    def fixed_point(self) -> FixedPoint:
        """Qm.n and the parenthesis that closes it."""
        quantization = self.quantization()
        fixed = None if quantization is None else quantization.fixed_point
        if fixed is None:
            raise self.expected("a format such as Q2.3")
        self.literal(")")
        return fixed

    def scale(self) -> Scale:
        """The steps and the parenthesis that closes them."""
        steps = self.rationals()
        self.literal(")")
        if any(step <= 0 for step in steps):
            raise self.fault("a scale is positive")
        return Scale(steps)

    def shape(self) -> tuple[int, ...]:
        self.literal("[", "a shape: [1,3,32,32]")
        if self.accept("]"):
            return ()
        sizes = [self.integer()]
        while self.accept(","):
            sizes.append(self.integer())
        self.literal("]")
        if min(sizes) < 0:
            raise self.fault(f"the shape {sizes} has a negative size")
        return tuple(sizes)

    # --- numbers -------------------------------------------------------------------------------------------------

    def integer(self) -> int:
        found = self.match(_INTEGER)
        if found is None:
            raise self.expected("an integer")
        try:
            return int(found[0])
        except ValueError:  # Python refuses to convert thousands of digits
            raise self.fault("the integer is too long") from None

    def short(self, digits: str, most: int, what: str) -> int:
        """The number that was read, of at most so many digits."""
        if len(digits.removeprefix("-")) > most:
            raise self.fault(f"{what} has {len(digits.removeprefix('-'))} digits, and at most {most} are read")
        return int(digits)

    def after_comma(self) -> int:
        self.literal(",")
        return self.integer()

    def pair(self) -> tuple[int, int]:
        first = self.integer()
        self.literal("x")
        return first, self.integer()

    def range(self) -> tuple[int, int]:
        low = self.integer()
        self.literal("..")
        return low, self.integer()

    def rational(self) -> Fraction:
        """n, n/d, 2^e or n*2^e."""
        if (power := self.match(_POWER)) is not None:
            return Fraction(2) ** self.short(power[1], 5, "an exponent")
        found = self.match(_RATIONAL)
        if found is None:
            raise self.expected("a rational: 3, 1/3, 2^-3 or 5*2^-3")
        exponent = self.short(found[3] or "0", 5, "an exponent")
        try:
            return Fraction(int(found[1]), int(found[2] or 1)) * Fraction(2) ** exponent
        except ZeroDivisionError:
            raise self.fault("a denominator of 0") from None
        except ValueError:
            raise self.fault("the rational is too long") from None

    def limit(self) -> Fraction | None:
        return None if self.accept("none") else self.rational()

    def rounding(self) -> RoundingMode:
        return self.choice({mode.value: mode for mode in RoundingMode}, "a rounding mode")

    def sequence(self, read: Callable[[], _T], brackets: str = "()") -> tuple[_T, ...]:
        """(a, b, ...)"""
        self.literal(brackets[0])
        found: list[_T] = []
        while not self.accept(brackets[1]):
            if found:
                self.literal(",")
            found.append(read())
        return tuple(found)

    def rationals(self) -> tuple[Fraction, ...]:
        """One rational, {several}, or a constant's name."""
        if self.at("{"):
            return self.sequence(self.rational, "{}")
        if not self.at("@"):
            return (self.rational(),)
        content, shape = self.constant()
        if not isinstance(content, tuple) or (len(content),) != shape:
            raise self.fault("the constant holds no such list of rationals")
        return content

    def constant(self) -> tuple[Constant, tuple[int, ...]]:
        found = self.match(_CONSTANT)
        if found is None:
            raise self.expected("a constant: @c0[shape]")
        if found[0] not in self.constants:
            raise self.fault(f"{found[0]} is not in the data section")
        return self.constants[found[0]], self.shape()

    def array(self, dtype: type[_Number]) -> NDArray[_Number]:
        """[shape]{numbers} or a constant's name."""
        if self.at("@"):
            content, shape = self.constant()
            if isinstance(content, tuple) or content.shape != shape or not np.can_cast(content.dtype, dtype):
                raise self.fault(f"the constant is no array of {np.dtype(dtype)} and shape {list(shape)}")
            if (content.dtype.kind == "f") != (np.dtype(dtype).kind == "f"):
                raise self.fault(f"the constant is no array of {np.dtype(dtype)}")
            return content.astype(dtype)
        shape = self.shape()
        read = self.integer if np.dtype(dtype).kind == "i" else self.float
        numbers = self.sequence(read, "{}")
        if len(numbers) != math.prod(shape):
            raise self.fault(f"{len(numbers)} numbers do not fill the shape {list(shape)}")
        try:
            return np.array(numbers, dtype=dtype).reshape(shape)
        except OverflowError:
            raise self.fault("an integer beyond 64 bits") from None

    def float(self) -> float:
        found = self.match(_FLOAT)
        try:
            return float(found[0] if found is not None else "")
        except ValueError:
            raise self.expected("a number") from None
