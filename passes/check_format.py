"""--fmt asserts: every weight and activation quantizer has the width and the fraction bits that the user named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import Constant, Conv, Linear, Quantize, QuantizedConstant
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import Op, Value
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.passes.given_format import GivenFormat
from pefslc.passes.manager import Exactness

__all__ = [
    "CheckFormat",
    "CheckGivenFormats",
    "contradicts",
    "describe",
    "is_float",
    "quantizer_roles",
    "require_float",
    "require_formats",
]


@dataclass(frozen=True, slots=True)
class CheckFormat:
    """Raise, with every contradiction, where a weight or activation quantizer is not in `fmt`. Changes nothing.

    Width and fraction bits count. Signedness and narrow range are exempt (Q2.3 also means UQ2.3 after a ReLU), and so
    are biases, accumulators and other constants: they are exact whatever their width.
    """

    fmt: FixedPoint
    name: ClassVar[str] = "check-format"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        problems = [
            Problem(
                Code.FORMAT_CONTRADICTED,
                f"--fmt says {self.fmt.describe()}; this {role} quantizer is {describe(op.quantization)}",
                at=op.result.origin,
            )
            for op, role in sorted(quantizer_roles(graph), key=lambda found: found[1] != "weight")
            if contradicts(op.quantization, self.fmt)
        ]
        if problems:
            hint = (
                f"train in {self.fmt}, or leave out --fmt: the model's own formats are then taken; or --requantize "
                "changes them, and says what that does"
            )
            raise CompileError.of([*problems[:-1], replace(problems[-1], hint=hint)])
        return graph


@dataclass(frozen=True, slots=True, eq=False)
class CheckGivenFormats:
    """--formats asserts: raise where a quantizer has another format than the entry that names it. Changes nothing.

    Width and fraction bits count; the sign, too, where the entry names the tensor or the layer. Zero points do not
    agree with such an entry.

    given  by the name of the quantizer's result
    """

    given: Mapping[str, GivenFormat]
    name: ClassVar[str] = "check-formats"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        problems = []
        for op, role in quantizer_roles(graph):
            given = self.given.get(op.result.name)
            if given is None:
                continue
            fmt, has = given.fmt, op.quantization
            if isinstance(fmt, AutoFormat):  # refused before anything runs
                continue
            if contradicts(has, fmt) or (given.exactly and has.fixed_point != fmt):
                problems.append(
                    Problem(
                        Code.FORMAT_CONTRADICTED,
                        f"{given.where} says {fmt.describe()}; this {role} quantizer is {describe(has)}",
                        at=op.result.origin,
                    )
                )
        if problems:
            hint = "write what the model has, or leave the entry out; `pefslc formats MODEL` writes what it has"
            raise CompileError.of([*problems[:-1], replace(problems[-1], hint=hint)])
        return graph


def contradicts(quantization: Quantization, fmt: FixedPoint) -> bool:
    """Whether the width or the step are not those of `fmt`."""
    return (
        quantization.bits != fmt.bits
        or quantization.scale.per_channel
        or power_of_two_exponent(quantization.scale.step) != -fmt.fraction_bits
    )


def require_formats(graph: Graph) -> None:
    """Raise CompileError for a float model: without --fmt nothing says what its codes are."""
    if is_float(graph):
        raise CompileError(
            Code.MODEL_NOT_QUANTIZED,
            "the model is not quantized: its weights and activations are floats",
            at=graph.name,
            hint="--fmt Q3.4 quantizes it after training, in that format, --fmt auto:8 --calibrate data.npz in formats "
            "chosen from data (`pefslc explain float-models`); or train in a format (`pefslc explain training`)",
        )


def require_float(graph: Graph) -> None:
    """Raise CompileError for a quantized model: its formats are its own, there are none to choose."""
    if not is_float(graph):
        raise has_formats(graph, "--fmt auto", "--fmt")


def has_formats(graph: Graph, what: str, said_in: str) -> CompileError:
    """The refusal to choose formats of a quantized model, which `what` asks for, in `said_in`."""
    return CompileError(
        Code.CALIBRATION,
        f"{what} chooses the formats of float models, and this one is quantized already",
        at=graph.name,
        hint=f"leave out {said_in}: the model's own formats are then taken",
    )


def is_float(graph: Graph) -> bool:
    """Whether nothing of the graph is quantized, not even a constant, or what a part of a graph begins with."""
    values = (*(i.value for i in graph.inputs), *(op.result for op in graph.ops))
    return not any(isinstance(value.type.element, Quantization) for value in values)


def describe(quantization: Quantization) -> str:
    """A quantization in words: Qm.n with its range where it is one, else its width and scale."""
    fixed = quantization.fixed_point
    if fixed is not None:
        return fixed.describe()
    sign = "signed" if quantization.signed else "unsigned"
    scale = (
        f"{len(quantization.scale.steps)} scales, one per channel"
        if quantization.scale.per_channel
        else f"scale {float(quantization.scale.step):g}"
    )
    return f"{quantization.bits} bits {sign}, {scale}"


def quantizer_roles(graph: Graph) -> list[tuple[Quantize | QuantizedConstant, str]]:
    """The weight and activation quantizers in order, each with its role in words."""
    producers = graph.producers()
    constants: set[str] = set()
    for op in graph.ops:
        if isinstance(op, Constant | QuantizedConstant) or (
            isinstance(op, Quantize | Transpose | Reshape) and op.input.name in constants
        ):
            constants.add(op.result.name)
    weights: set[str] = set()
    for op in graph.ops:
        if isinstance(op, Conv | Linear):
            weights.update(_chain(op.weight, producers))
    roles: list[tuple[Quantize | QuantizedConstant, str]] = []
    for op in graph.ops:
        if isinstance(op, Quantize | QuantizedConstant):
            if op.result.name in weights:
                roles.append((op, "weight"))
            elif op.result.name not in constants:
                roles.append((op, "activation"))
    return roles


def _chain(value: Value, producers: dict[str, Op]) -> Iterator[str]:
    """`value` and what it is made of, through quantizers and rearrangements."""
    name: str | None = value.name
    while name is not None:
        yield name
        op = producers.get(name)
        name = op.input.name if isinstance(op, Quantize | Transpose | Reshape) else None
