"""The IR's notation, read back: the inverse of `text.py`, which describes it."""

from __future__ import annotations

import math
import re
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, replace
from fractions import Fraction
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.geometry.shapes import Window
from pefslc.ir.cursor import Constant, Cursor
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level, OutputMap
from pefslc.ir.integer import IntegerOp
from pefslc.ir.output_function import OutputFunction, OutputFunctionKind
from pefslc.ir.quantized import QuantizedOp
from pefslc.ir.text import NO_DATA
from pefslc.ir.value import IntArray, Op, RealArray, Value
from pefslc.numeric.chain import Chains
from pefslc.numeric.expression import Call, Expression, Function, Number, X
from pefslc.numeric.line import BentLine
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, SnapStage, Stage
from pefslc.numeric.staircase import MOST_STEPS, Staircase

__all__ = ["parse_graph"]

_OPS: dict[str, type[Op]] = {op.mnemonic: op for op in (*get_args(QuantizedOp), *get_args(IntegerOp))}

_ENTRY = re.compile(r"(@c\d+): (rational|[iuf]\d+)(?=\[)", re.ASCII)
_ELEMENT_TYPES = {f"{kind}{bits}": f"<{kind}{bits // 8}" for kind in "iuf" for bits in (8, 16, 32, 64)}


def parse_graph(text: str) -> Graph:
    """The graph that `text` prints. Raises CompileError with the line and what was expected there.

    TypeError for what is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"parse_graph takes the text of a graph, as str(graph) gives it, not {type(text).__name__}")
    lines = text.removeprefix("\ufeff").splitlines()  # some editors begin a file with a byte order mark
    if NO_DATA in lines:
        raise CompileError(
            Code.IR_TEXT,
            "the text was printed without its data",
            hint="print it whole to read it back: `pefslc opt` without --short, or str(graph)",
        )
    split = lines.index("data") if "data" in lines else len(lines)
    constants = dict(_constants(lines, split + 1))
    body = (Cursor(number, line, constants) for number, line in enumerate(lines[:split], 1) if line.strip())
    head = next(body, None)
    if head is None:
        raise CompileError(
            Code.IR_TEXT, "the text holds no graph", hint='its first line is: graph "name" quantized|integer'
        )
    head.literal("graph")
    name, level = head.string(), head.choice({level.value: level for level in Level}, "quantized or integer")
    uniform = head.fixed_point() if head.accept("uniform(") else None
    head.end()
    return replace(_graph(name, level, body), uniform_format=uniform)


def _graph(name: str, level: Level, body: Iterator[Cursor]) -> Graph:
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
            raise line.fault(f"this line is not legal ({str(e) or 'its numbers contradict each other'})") from None
    return Graph(name, level, tuple(inputs), tuple(ops), tuple(outputs))


def _input(line: Cursor) -> GraphInput:
    name = line.string()
    line.literal("as")
    value_name, tensor = line.definition()
    quantizer = _quantizer(line) if line.accept("quantizer(") else None
    stages = line.sequence(lambda: _stage(line)) if line.accept("stages=") else ()
    channel_axis = line.integer() if line.accept("channel_axis=") else 1
    integers = line.word() if line.accept("integers=") else ""
    return GraphInput(name, Value(value_name, tensor, line.origin()), quantizer, stages, channel_axis, integers)


def _output(line: Cursor) -> GraphOutput:
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
    function = _output_function(line) if line.accept("function(") else None
    line.end()
    return GraphOutput(name, value, output_map, function)


def _output_function(line: Cursor) -> OutputFunction:
    kind = line.choice({k.value: k for k in OutputFunctionKind}, "a function of the host's")
    line.literal(", axis=")
    axis = line.integer()
    keepdims, last = not line.accept(", without_axis"), line.accept(", last")
    as_codes = line.accept(", as_codes")
    quantizer = _quantizer(line) if line.accept(", quantizer(") else None
    line.literal(")")
    return OutputFunction(kind, axis, keepdims, last, quantizer, as_codes)


def _op(line: Cursor) -> Op:
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
    return kind(result=Value(name, tensor, line.origin()), **content)


def _require_all(line: Cursor, named: dict[str, Field[object]], content: dict[str, object]) -> None:
    missing = [n for n, f in named.items() if f.default is MISSING and n not in content]
    if missing:
        raise line.expected(f"{missing[0]}=")


def _field(line: Cursor, hint: object) -> object:
    """What stands after a field's name: (...) for the compound types, =... for the others."""
    if isinstance(hint, UnionType) and NoneType in get_args(hint):
        if line.accept("=none"):
            return None
        (hint,) = (h for h in get_args(hint) if h is not NoneType)
    compound: dict[object, Callable[[Cursor], object]] = {Window: _window, Staircase: _staircase, BentLine: _bent_line}
    if hint in compound:
        line.literal("(")
        return compound[hint](line)
    line.literal("=")
    return _plain(line, hint)


def _plain(line: Cursor, hint: object) -> object:
    if get_origin(hint) is tuple:
        return line.sequence(lambda: _plain(line, get_args(hint)[0]))
    if hint == Stage or hint is Affine or hint is LeakyReluStage:
        stage = _stage(line)
        if isinstance(hint, type) and not isinstance(stage, hint):
            raise line.expected("affine(...)" if hint is Affine else "relu or leaky_relu(...)")
        return stage
    if hint == Expression:
        return _expression(line)
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


def _window(line: Cursor) -> Window:
    kernel = line.pair()
    strides = line.pair() if line.accept(", strides=") else (1, 1)
    dilations = line.pair() if line.accept(", dilations=") else (1, 1)
    pads = (0, 0, 0, 0)
    if line.accept(", pads="):
        pads = (line.integer(), line.after_comma(), line.after_comma(), line.after_comma())
    input_dilations = line.pair() if line.accept(", input_dilations=") else (1, 1)
    line.literal(")")
    return Window(kernel=kernel, strides=strides, dilations=dilations, pads=pads, input_dilations=input_dilations)


def _staircase(line: Cursor) -> Staircase:
    line.literal("domain=")
    low, high = line.range()
    line.literal(", low=")
    first = line.integer()
    if line.accept(", channels="):
        return _unlisted(line, low, high, first)
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


def _unlisted(line: Cursor, low: int, high: int, first: int) -> Staircase:
    """A staircase of what its thresholds are computed from."""
    channels = line.integer()
    line.literal(", levels=")
    lowest, highest = line.range()
    line.literal(", scale(")
    scale = line.scale()
    line.literal(", stages=")
    stages = line.sequence(lambda: _stage(line))
    line.literal(", quantizer(")
    quantizer = _quantizer(line)
    line.literal(")")
    per_channel = [len(scale.steps), len(quantizer.quantization.scale.steps)]
    per_channel += [getattr(stage, "channels", 1) for stage in stages]
    if channels < 1 or not set(per_channel) <= {1, channels} or not 0 <= highest - lowest < MOST_STEPS:
        raise line.fault("levels that fall or are too many, or a list that is not of one entry or one for each channel")
    chains = Chains(
        scale=scale,
        stages=stages,
        quantizer=quantizer,
        domain_low=low,
        domain_high=high,
        channels=channels,
        levels=range(lowest, highest + 1),
    )
    return Staircase.unlisted(chains).lowered(lowest - 1 - first)


def _bent_line(line: Cursor) -> BentLine:
    above = line.rational()
    line.literal(", below=")
    below = line.rational()
    line.literal(",")
    low, high = line.range()
    line.literal(")")
    return BentLine(above, below, low, high)


def _stage(line: Cursor) -> Stage:
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
        alphas = line.rationals()
        line.literal(")")
        return LeakyReluStage(alphas)
    if line.accept("clip("):
        low = line.limit()
        line.literal(",")
        high = line.limit()
        line.literal(")")
        return ClipStage(low, high)
    if line.accept("snap("):
        step = line.rational()
        line.literal(",")
        zero_point = line.integer()
        line.literal(")")
        return SnapStage(step, zero_point)
    if line.accept("function("):
        expression = _expression(line)
        line.literal(")")
        return FunctionStage(expression)
    line.literal("relu", "a stage: affine(...), relu, leaky_relu(...), clip(...), snap(...) or function(...)")
    return LeakyReluStage()


_FUNCTIONS: dict[str, Function | None] = {"x": None, **{f.value: f for f in Function}}


def _expression(line: Cursor) -> Expression:
    """x, a rational, or function(arguments)."""
    if line.at_number():
        return Number(line.rational())
    function = line.choice(_FUNCTIONS, "x, a number or a function")
    return X if function is None else Call(function, line.sequence(lambda: _expression(line)))


def _quantizer(line: Cursor) -> Quantizer:
    quantization = line.quantization()
    if quantization is None:
        raise line.expected("a format: Q2.3, UQ2.3, i8*(scale) or u8*(scale)")
    line.literal(",")
    rounding = line.rounding()
    last = line.accept(", zero_point_last")
    line.literal(")")
    return Quantizer(quantization, rounding, last)


def _constants(lines: list[str], first: int) -> Iterator[tuple[str, Constant]]:
    """The named constants: a line with name, type and shape, then indented lines with the content."""
    position = first
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        head = Cursor(position + 1, lines[position], {})
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


def _content(head: Cursor, kind: str, shape: tuple[int, ...], content: list[str]) -> Constant:
    if kind == "rational":
        line = Cursor(head.number + 1, f"({' '.join(content)})", {})
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
