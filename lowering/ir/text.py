"""The IR's one notation, printed. `parse.py` reads it back: parse_graph(print_graph(g)) == g.

    graph "tiny" integer
    input "x" as %v1: [-16..15]*(2^-3)[1,1,4,4] quantizer(Q2.3, half_even)  // (input) x
    %v3: [-480..512]*(2^-6)[1,8,4,4] = conv2d %v1 weight=@c0[8,1,3,3] bias=none window(3x3) groups=1  // b1 (Conv) y
    output "y" = %v3 map(scale=2^-6, offset=0)
    data
    @c0: i8[8,1,3,3]
      eNpj...

One operation a line: its operands, then the fields that differ from their defaults. Constants of up to 16 elements
stand in the line; larger ones are named and listed after `data`, as base64 of the zlib-compressed little-endian array.
"""

from __future__ import annotations

import json
import re
import textwrap
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import MISSING, fields
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.interface import GraphInput, GraphOutput, OutputMap
from pefslc.ir.output_function import OutputFunction
from pefslc.ir.value import CodeRange, IntArray, Op, RealArray, TensorType, Value
from pefslc.numeric.chain import Chains
from pefslc.numeric.expression import Call, Number, Variable
from pefslc.numeric.format import Quantization
from pefslc.numeric.line import BentLine
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, SnapStage, Stage
from pefslc.numeric.staircase import Staircase

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph

__all__ = ["BARE_NAME", "NO_DATA", "narrowest", "print_graph", "stages_text", "type_text", "window_text"]

BARE_NAME = re.compile(r"[A-Za-z0-9_./-]+", re.ASCII)
NO_DATA = "// data left out"

_LARGEST_INLINE = 16
_LONGEST_NAME_WITHOUT_DATA = 80
_NARROWEST_FIRST = ("i1", "u1", "i2", "u2", "i4", "u4", "i8")  # NumPy's names; printed in bits: i8 ... i64
_INDENT = "  "


def print_graph(graph: Graph, *, data: bool = True) -> str:
    """The text of `graph`. Without `data` it is for reading only: large constants and long names are cut."""
    return _Printer(data).graph(graph)


def type_text(tensor: TensorType) -> str:
    """The text of a type alone, constants that it names left out."""
    return _Printer(with_data=False).type(tensor)


def stages_text(stages: tuple[Stage, ...]) -> str:
    """The text of stages alone, long lists of constants by their names."""
    return _Printer(with_data=False).plain(stages)


class _Printer:
    def __init__(self, with_data: bool) -> None:
        self.with_data = with_data
        self.names: dict[str, str] = {}  # text of a constant's entry under `data`, without its name -> its name

    def graph(self, graph: Graph) -> str:
        uniform = "" if graph.uniform_format is None else f" uniform({graph.uniform_format})"
        lines = [f"graph {self.quoted(graph.name)} {graph.level.value}{uniform}"]
        lines += [self.input(i) for i in graph.inputs]
        lines += [self.op(op) for op in graph.ops]
        lines += [self.output(o) for o in graph.outputs]
        if not self.with_data:
            lines.append(NO_DATA)
        elif self.names:
            lines.append("data")
            lines += [f"{name}: {entry}" for entry, name in self.names.items()]
        return "\n".join(lines) + "\n"

    def input(self, graph_input: GraphInput) -> str:
        quantizer = "" if graph_input.quantizer is None else f" {self.field('quantizer', graph_input.quantizer)}"
        if graph_input.stages:
            quantizer += f" {self.field('stages', graph_input.stages)}"
        if graph_input.channel_axis != 1:
            quantizer += f" {self.field('channel_axis', graph_input.channel_axis)}"
        if graph_input.integers:
            quantizer += f" integers={graph_input.integers}"
        return f"input {self.quoted(graph_input.name)} as {self.definition(graph_input.value)}{quantizer}" + (
            self.origin(graph_input.value.origin)
        )

    def output(self, output: GraphOutput) -> str:
        output_map = "" if output.map is None else f" {self.field('map', output.map)}"
        function = "" if output.function is None else f" {self.function(output.function)}"
        return f"output {self.quoted(output.name)} = {self.reference(output.value)}{output_map}{function}"

    def op(self, op: Op) -> str:
        operands, attributes = [], []
        for field in fields(op):
            content: object = getattr(op, field.name)
            if field.name == "result" or (field.default is not MISSING and content == field.default):
                continue
            if isinstance(content, Value) and field.type in ("Value", Value):
                operands.append(self.reference(content))
            else:
                attributes.append(self.field(field.name, content))
        words = [op.mnemonic, *operands, *attributes]
        return f"{self.definition(op.result)} = {' '.join(words)}{self.origin(op.result.origin)}"

    # --- names ---------------------------------------------------------------------------------------------------

    def quoted(self, name: str) -> str:
        return json.dumps(self.cut(name))

    def word(self, name: str) -> str:
        """The name as it is where it is plain, else quoted."""
        return name if BARE_NAME.fullmatch(name) and self.cut(name) == name else self.quoted(name)

    def cut(self, name: str) -> str:
        if self.with_data or len(name) <= _LONGEST_NAME_WITHOUT_DATA:
            return name
        return name[: _LONGEST_NAME_WITHOUT_DATA - 3] + "..."

    def reference(self, value: Value) -> str:
        return f"%{self.word(value.name)}"

    def definition(self, value: Value) -> str:
        return f"{self.reference(value)}: {self.type(value.type)}"

    def origin(self, origin: Origin) -> str:
        words = [self.word(origin.node) if origin.node else "", f"({self.word(origin.op_type)})"]
        words.append(self.word(origin.tensor) if origin.tensor else "")
        return f"{_INDENT}// {' '.join(filter(None, words))}"

    # --- types ---------------------------------------------------------------------------------------------------

    def type(self, tensor: TensorType) -> str:
        return f"{self.element(tensor.element)}{_shape(tensor.shape)}"

    def element(self, element: object) -> str:
        match element:
            case CodeRange() if element.scale.per_channel:
                zero_point = f"+{element.zero_point}" if element.zero_point else ""
                return f"[{element.low}..{element.high}]{zero_point}*({self.scale(element.scale)})"
            case Quantization() if element.scale.per_channel:
                text = str(element)
                return f"{text[: text.index('*')]}*({self.scale(element.scale)})"
        return str(element)

    def scale(self, scale: Scale) -> str:
        return self.rationals(scale.steps)

    # --- fields --------------------------------------------------------------------------------------------------

    def field(self, name: str, content: object) -> str:
        match content:
            case None:
                return f"{name}=none"
            case Window():
                return f"{name}({window_text(content)})"
            case Quantizer():
                return f"{name}({self.quantizer(content)})"
            case OutputMap():
                return f"{name}(scale={self.rationals(content.scale)}, offset={self.rationals(content.offset)})"
            case Staircase():
                return f"{name}({self.staircase(content)})"
            case BentLine():
                slopes = f"{_rational(content.above)}, below={_rational(content.below)}"
                return f"{name}({slopes}, {content.low}..{content.high})"
            case _:
                return f"{name}={self.plain(content)}"

    def plain(self, content: object) -> str:
        match content:
            case bool():
                return "true" if content else "false"
            case int():
                return str(content)
            case Fraction():
                return _rational(content)
            case Enum():
                return str(content.value)
            case Value():
                return self.reference(content)
            case IntArray() | RealArray():
                return self.array(content.data)
            case Affine():
                parts = (content.factor, content.addend, content.radicand, content.offset)
                return f"affine({', '.join(self.rationals(part) for part in parts)})"
            case LeakyReluStage():
                return f"leaky_relu({self.rationals(content.alphas)})" if content != LeakyReluStage() else "relu"
            case ClipStage():
                return f"clip({_limit(content.low)}, {_limit(content.high)})"
            case FunctionStage():
                return f"function({content.expression})"
            case Variable() | Number() | Call():
                return str(content)
            case SnapStage():
                return f"snap({_rational(content.step)}, {content.zero_point})"
            case tuple():
                return f"({', '.join(map(self.plain, content))})"
            case _:
                raise TypeError(f"the IR has no notation for {type(content).__name__}")

    def function(self, function: OutputFunction) -> str:
        words = [function.kind.value, f"axis={function.axis}"]
        words += [] if function.keepdims else ["without_axis"]
        words += ["last"] if function.last else []
        if function.quantizer is not None:
            words += ["as_codes"] if function.as_codes else []
            words.append(f"quantizer({self.quantizer(function.quantizer)})")
        return f"function({', '.join(words)})"

    def quantizer(self, quantizer: Quantizer) -> str:
        last = ", zero_point_last" if quantizer.adds_zero_point_last else ""
        return f"{self.element(quantizer.quantization)}, {quantizer.rounding.value}{last}"

    def staircase(self, staircase: Staircase) -> str:
        """By its thresholds; where they are too many, by what they are computed from."""
        start = f"domain={staircase.domain_low}..{staircase.domain_high}, low={staircase.low}"
        if staircase.has_many_steps and staircase.chains is not None:
            return f"{start}, {self.chains(staircase.chains)}"
        direction = staircase.direction.tolist()
        words = {1: "rising", -1: "falling"}
        same = words[direction[0]] if len(set(direction)) == 1 else f"direction={self.array(staircase.direction)}"
        step = "" if staircase.step == 1 else f", step={staircase.step}"
        return f"{start}{step}, {same}, thresholds={self.array(staircase.thresholds)}"

    def chains(self, chains: Chains) -> str:
        levels = f"{chains.levels.start}..{chains.levels.stop - 1}"
        made_of = f"scale({self.scale(chains.scale)}), stages={self.plain(chains.stages)}"
        return f"channels={chains.channels}, levels={levels}, {made_of}, quantizer({self.quantizer(chains.quantizer)})"

    # --- constants -----------------------------------------------------------------------------------------------

    def named(self, shape: str, entry: str) -> str:
        return self.names.setdefault(entry, f"@c{len(self.names)}") + shape

    def rationals(self, values: Sequence[Fraction]) -> str:
        """One rational as it is; several in braces, or by name."""
        if len(values) == 1:
            return _rational(values[0])
        text = ", ".join(map(_rational, values))
        if len(values) <= 4:
            return f"{{{text}}}"
        lines = textwrap.wrap(
            text, 100, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
        )
        return self.named(f"[{len(values)}]", "\n".join([f"rational[{len(values)}]", *lines]))

    def array(self, array: NDArray[np.int64] | NDArray[np.float64]) -> str:
        shape = _shape(array.shape)
        if array.size <= _LARGEST_INLINE:
            return f"{shape}{{{', '.join(map(repr, array.reshape(-1).tolist()))}}}"
        narrow = narrowest(array)
        name = f"{narrow.dtype.kind}{8 * narrow.dtype.itemsize}"
        packed = b64encode(zlib.compress(narrow.astype(narrow.dtype.newbyteorder("<")).tobytes(), 9)).decode()
        lines = [_INDENT + packed[i : i + 98] for i in range(0, len(packed), 98)]
        return self.named(shape, "\n".join([f"{name}{shape}", *lines]))


def _shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def window_text(window: Window) -> str:
    """A window: its kernel, then what differs from the defaults."""
    words = ["x".join(map(str, window.kernel))]
    if window.strides != (1, 1):
        words.append(f"strides={'x'.join(map(str, window.strides))}")
    if window.dilations != (1, 1):
        words.append(f"dilations={'x'.join(map(str, window.dilations))}")
    if window.is_padded:
        words.append(f"pads={','.join(map(str, window.pads))}")
    if window.dilates_input:
        words.append(f"input_dilations={'x'.join(map(str, window.input_dilations))}")
    return ", ".join(words)


def _limit(value: Fraction | None) -> str:
    return "none" if value is None else _rational(value)


def _rational(value: Fraction) -> str:
    """An integer, `n*2^-e` or `n/d`; 1 * 2^-e without its 1."""
    if value.denominator == 1:
        return str(value.numerator)
    if value.denominator & (value.denominator - 1):
        return f"{value.numerator}/{value.denominator}"
    power = f"2^-{value.denominator.bit_length() - 1}"
    return power if value.numerator == 1 else f"{value.numerator}*{power}"


def narrowest(array: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.generic]:
    """The same numbers, bit for bit once widened again, in the narrowest type."""
    for name in _NARROWEST_FIRST if array.dtype.kind == "i" else ("f4", "f8"):
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = array.astype(name)
        if narrow.astype(array.dtype).tobytes() == array.tobytes():
            return narrow
    raise AssertionError("the widest type holds every number")
