"""The IR's notation, read back: the inverse of `text.py`, which describes it."""

from __future__ import annotations

import json
import math
import re
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from fractions import Fraction
from types import NoneType, UnionType
from typing import TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics import CompileError, Origin, quote
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level, OutputMap
from pefslc.ir.integer import IntegerOp
from pefslc.ir.quantized import QuantizedOp
from pefslc.ir.text import BARE_NAME, NO_DATA
from pefslc.ir.value import Codes, Element, IntArray, Op, Real, RealArray, TensorType, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage
from pefslc.numeric.staircase import Quantizer, Staircase
from pefslc.shapes import Window

__all__ = ["parse_graph"]

_OPS: dict[str, type[Op]] = {op.mnemonic: op for op in (*get_args(QuantizedOp), *get_args(IntegerOp))}

_INTEGER = re.compile(r"-?\d+", re.ASCII)
_FLOAT = re.compile(r"-?(?:inf|nan|\d[\d.]*(?:e[+-]?\d+)?)", re.ASCII)
_RATIONAL = re.compile(r"(-?\d+)(?:/(\d+)|\*2\^(-?\d{1,5}))?", re.ASCII)
_POWER = re.compile(r"2\^(-?\d{1,5})", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD = re.compile(r"[a-z_]+[a-z0-9_]*", re.ASCII)
_CONSTANT = re.compile(r"@c\d+", re.ASCII)
_FIXED_POINT = re.compile(r"(U?)Q(-?\d{1,5})\.(-?\d{1,5})(n?)", re.ASCII)
_GRID = re.compile(r"([iu])(\d{1,2})(n?)(?:\+(-?\d+))?\*\(", re.ASCII)
_ENTRY = re.compile(r"(@c\d+): (rational|[iuf]\d+)(?=\[)", re.ASCII)
_ELEMENT_TYPES = {f"{kind}{bits}": f"<{kind}{bits // 8}" for kind in "iuf" for bits in (8, 16, 32, 64)}

_T = TypeVar("_T")
_Number = TypeVar("_Number", np.int64, np.float64)
_Constants = dict[str, "NDArray[np.generic] | tuple[Fraction, ...]"]


def parse_graph(text: str) -> Graph:
    """The graph that `text` prints. Raises CompileError with the line and what was expected there."""
    lines = text.splitlines()
    if NO_DATA in lines:
        raise CompileError(
            "the text was printed without its data", hint="print it with print_graph(graph, data=True) to read it back"
        )
    split = lines.index("data") if "data" in lines else len(lines)
    constants = dict(_constants(lines, split + 1))
    body = (_Line(number, line, constants) for number, line in enumerate(lines[:split], 1) if line.strip())
    head = next(body, None)
    if head is None:
        raise CompileError("the text holds no graph", hint='its first line is: graph "name" quantized|integer')
    head.literal("graph")
    name, level = head.string(), head.choice({level.value: level for level in Level}, "quantized or integer")
    head.end()
    return _graph(name, level, body)


def _graph(name: str, level: Level, body: Iterator[_Line]) -> Graph:
    values: dict[str, Value] = {}
    inputs: list[GraphInput] = []
    ops: list[Op] = []
    outputs: list[GraphOutput] = []
    for line in body:
        line.values = values
        try:
            if line.accept("input "):
                inputs.append(_input(line))
                line.define(inputs[-1].value)
            elif line.accept("output "):
                outputs.append(_output(line))
            else:
                ops.append(_op(line))
                line.define(ops[-1].result)
        except AssertionError as e:  # the promises of the IR's own classes: an empty range, thresholds out of order
            raise line.fault(f"this line is not legal ({e})") from None
    return Graph(name, level, tuple(inputs), tuple(ops), tuple(outputs))


def _input(line: _Line) -> GraphInput:
    name = line.string()
    line.literal("as")
    value_name, tensor = line.definition()
    quantizer = _quantizer(line) if line.accept("quantizer(") else None
    return GraphInput(name, Value(value_name, tensor, line.origin()), quantizer)


def _output(line: _Line) -> GraphOutput:
    name = line.string()
    line.literal("=")
    value = line.reference()
    output_map = None
    if line.accept("map("):
        line.literal("scale=")
        scale = line.rationals()
        line.literal(",")
        line.literal("offset=")
        output_map = OutputMap(scale, line.rationals())
        line.literal(")")
    line.end()
    return GraphOutput(name, value, output_map)


def _op(line: _Line) -> Op:
    name, tensor = line.definition()
    line.literal("=")
    kind = line.choice(_OPS, "an operation")
    hints = get_type_hints(kind)
    content: dict[str, object] = {}
    for field in fields(kind):
        if field.name == "result":
            continue
        if hints[field.name] is Value:
            content[field.name] = line.reference()
    named = {f.name: f for f in fields(kind) if f.name != "result" and hints[f.name] is not Value}
    while not line.at("//"):
        field = line.choice({n: f for n, f in named.items() if n not in content}, f"a field of {kind.mnemonic} or //")
        content[field.name] = _field(line, hints[field.name])
    _require_all(line, named, content)
    # The fields and their types come from the class itself.
    return kind(result=Value(name, tensor, line.origin()), **content)  # type: ignore[arg-type]


def _require_all(line: _Line, named: dict[str, Field[object]], content: dict[str, object]) -> None:
    missing = [n for n, f in named.items() if f.default is MISSING and n not in content]
    if missing:
        raise line.expected(f"{missing[0]}=")


def _field(line: _Line, hint: object) -> object:
    """What stands after a field's name: (...) for the compound types, =... for the others."""
    if isinstance(hint, UnionType) and NoneType in get_args(hint):
        if line.accept("=none"):
            return None
        (hint,) = (h for h in get_args(hint) if h is not NoneType)
    if hint in (Window, Staircase):
        line.literal("(")
        return _window(line) if hint is Window else _staircase(line)
    line.literal("=")
    return _plain(line, hint)


def _plain(line: _Line, hint: object) -> object:
    if get_origin(hint) is tuple:
        return line.sequence(lambda: _plain(line, get_args(hint)[0]))
    if hint == Stage or hint is Affine:
        return _stage(line)
    if hint is IntArray:
        return IntArray(line.array(np.int64))
    if hint is RealArray:
        return RealArray(line.array(np.float64))
    readers: dict[object, Callable[[], object]] = {
        int: line.integer,
        Fraction: line.rational,
        Value: line.reference,
        bool: lambda: line.choice({"true": True, "false": False}, "true or false"),
        RoundingMode: line.rounding,
    }
    return readers[hint]()


def _window(line: _Line) -> Window:
    kernel = line.pair()
    strides = line.pair() if line.accept(", strides=") else (1, 1)
    dilations = line.pair() if line.accept(", dilations=") else (1, 1)
    pads = (0, 0, 0, 0)
    if line.accept(", pads="):
        pads = (line.integer(), line.after_comma(), line.after_comma(), line.after_comma())
    line.literal(")")
    return Window(kernel=kernel, strides=strides, dilations=dilations, pads=pads)


def _staircase(line: _Line) -> Staircase:
    line.literal("domain=")
    low, high = line.range()
    line.literal(", low=")
    first = line.integer()
    step = line.integer() if line.accept(", step=") else 1
    line.literal(",")
    directions = {"rising": 1, "falling": -1, "direction": 0}
    same = line.choice(directions, "rising, falling or direction=")
    direction = None
    if not same:
        line.literal("=")
        direction = line.array(np.int64)
    line.literal(", thresholds=")
    thresholds = line.array(np.int64)
    line.literal(")")
    if direction is None:
        direction = np.full(thresholds.shape[:1], same, dtype=np.int64)
    return Staircase(low, high, first, thresholds, direction, step)


def _stage(line: _Line) -> Stage:
    if line.accept("affine("):
        factor = line.rationals()
        parts = []
        for _ in range(3):
            line.literal(",")
            parts.append(line.rationals())
        line.literal(")")
        if any(len(part) != len(factor) for part in parts):
            raise line.expected("four lists of one length")
        return Affine(factor, *parts)
    if line.accept("leaky_relu("):
        alpha = line.rational()
        line.literal(")")
        return LeakyReluStage(alpha)
    if line.accept("clip("):
        low = line.limit()
        line.literal(",")
        high = line.limit()
        line.literal(")")
        return ClipStage(low, high)
    line.literal("relu", "a stage: affine(...), relu, leaky_relu(...) or clip(...)")
    return LeakyReluStage()


def _quantizer(line: _Line) -> Quantizer:
    quantization = line.quantization()
    if quantization is None:
        raise line.expected("a format: Q2.3, UQ2.3, i8*(scale) or u8*(scale)")
    line.literal(",")
    rounding = line.rounding()
    last = line.accept(", zero_point_last")
    line.literal(")")
    return Quantizer(quantization, rounding, last)


def _constants(lines: list[str], first: int) -> Iterator[tuple[str, NDArray[np.generic] | tuple[Fraction, ...]]]:
    """The named constants: a line with name, type and shape, then indented lines with the content."""
    position = first
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        head = _Line(position + 1, lines[position], {})
        match = head.match(_ENTRY)
        if match is None:
            raise head.expected("a constant: @c0: i8[2,3]")
        shape = head.shape()
        head.end()
        position += 1
        content = []
        while position < len(lines) and lines[position].startswith(" "):
            content.append(lines[position].strip())
            position += 1
        yield match[1], _content(head, match[2], shape, content)


def _content(
    head: _Line, kind: str, shape: tuple[int, ...], content: list[str]
) -> NDArray[np.generic] | tuple[Fraction, ...]:
    if kind == "rational":
        line = _Line(head.number + 1, f"({' '.join(content)})", {})
        values = line.sequence(line.rational)
        if (len(values),) != shape:
            raise head.fault(f"{len(values)} numbers do not fill the shape {list(shape)}")
        return values
    if kind not in _ELEMENT_TYPES:
        raise head.fault(f"{kind} is no type of constants", hint=f"one of {', '.join(_ELEMENT_TYPES)}")
    dtype = np.dtype(_ELEMENT_TYPES[kind])
    size = math.prod(shape) * dtype.itemsize
    try:
        # One byte more than expected, so that a longer array is seen and a bomb is not inflated.
        data = zlib.decompressobj().decompress(b64decode("".join(content), validate=True), size + 1)
    except (ValueError, zlib.error):
        raise head.fault("the data is damaged: it is not base64 of a zlib stream") from None
    if len(data) != size:
        raise head.fault(f"the data does not fill the shape {list(shape)}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


class _Line:
    """A cursor over one line."""

    def __init__(self, number: int, text: str, constants: _Constants) -> None:
        self.number, self.text, self.position = number, text, 0
        self.constants = constants
        self.values: dict[str, Value] = {}

    # --- characters ----------------------------------------------------------------------------------------------

    def fault(self, message: str, hint: str | None = None) -> CompileError:
        return CompileError(f"line {self.number}: {message}", hint=hint)

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
            return Codes(low=low, high=high, scale=self.scale(), zero_point=zero_point)
        quantization = self.quantization()
        if quantization is None:
            raise self.expected("a type: real, a format such as Q2.3, or [low..high]*(scale)")
        return quantization

    def quantization(self) -> Quantization | None:
        if (found := self.match(_FIXED_POINT)) is not None:
            bits, scale = int(found[2]) + int(found[3]), Scale.power_of_two(-int(found[3]))
            signed, narrow, zero_point = not found[1], bool(found[4]), 0
        elif (found := self.match(_GRID)) is not None:
            bits, scale = int(found[2]), self.scale()
            signed, narrow, zero_point = found[1] == "i", bool(found[3]), int(found[4] or 0)
        else:
            return None
        if bits < 1:
            raise self.fault(f"a format of {bits} bits")
        return Quantization(bits=bits, signed=signed, scale=scale, narrow=narrow, zero_point=zero_point)

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
            return Fraction(2) ** int(power[1])
        found = self.match(_RATIONAL)
        if found is None:
            raise self.expected("a rational: 3, 1/3, 2^-3 or 5*2^-3")
        try:
            return Fraction(int(found[1]), int(found[2] or 1)) * Fraction(2) ** int(found[3] or 0)
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

    def constant(self) -> tuple[NDArray[np.generic] | tuple[Fraction, ...], tuple[int, ...]]:
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
