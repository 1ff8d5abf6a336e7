"""The steps of a program as C functions, one each: what the templates step_KIND.j2 ask for."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from pefslc.targets.c.arena import Arena
from pefslc.targets.c.convolution_functions import AnyLoops, convolution_loops, part_calls
from pefslc.targets.c.naming import comment_text
from pefslc.targets.c.packing import packed_bytes
from pefslc.targets.c.prototypes import Parameter
from pefslc.targets.c.stages import ConstantArray, LineWriter, literal
from pefslc.targets.c.steps import ConvolutionStep, CopyStep, MapStep, PoolStep, Step
from pefslc.targets.c.storage import Buffer, CType, Place, narrowest_signed, sum_type

__all__ = ["StepFunction", "step_function"]

SomeStep_co = TypeVar("SomeStep_co", bound=Step, covariant=True)

_UINT8 = CType(8, signed=False)


def step_function(prefix: str, index: int, step: Step, is_overlaid: bool) -> StepFunction[Step]:
    """The function of step number `index`; `is_overlaid`, where the result lies over a part of what is read."""
    match step:
        case ConvolutionStep():
            return _ConvolutionFunction(prefix, index, step, is_overlaid)
        case PoolStep():
            return _PoolFunction(prefix, index, step, is_overlaid)
        case MapStep():
            return _MapFunction(prefix, index, step, is_overlaid)
        case CopyStep():
            return _CopyFunction(prefix, index, step, is_overlaid)
    raise AssertionError("no such step")


class StepFunction(ABC, Generic[SomeStep_co]):
    """One step as one static function.

    restrict       the qualifier of its pointers; none where the result lies over a part of what is read
    constants      arrays that it reads
    lines          C statements that make a result of what its loops computed
    stored         the C expression of the result, behind them
    needs_channel  whether they read `c`, the number of the channel
    helpers        templates of the C functions that they call
    """

    def __init__(self, prefix: str, index: int, step: SomeStep_co, is_overlaid: bool) -> None:
        self.step = step
        self.index = index
        self.name = f"step{index}"
        self.restrict = "" if is_overlaid else "restrict "
        self.constants: list[ConstantArray] = []
        self.lines: list[str] = []
        self.stored = ""
        self.needs_channel = False
        self.helpers: set[str] = set()
        self._base = f"{prefix}_{index}"  # of the names of arrays
        self._write()

    @abstractmethod
    def _write(self) -> None:
        """Make the constants and the lines."""

    def _write_stages(self, loaded: str, kind: CType, element: str = "at + c") -> None:
        """From `loaded`, a C expression of type `kind`, to the result's element, in terms of the template's loops."""
        step = self.step
        writer = LineWriter(self._base, element, [f"r{i}" for i in range(len(step.added))])
        name = writer.define(kind, loaded)
        for stage in step.stages:
            name, kind = stage.write(writer, name, kind)
        self.lines, self.helpers, self.needs_channel = writer.lines, writer.helpers, writer.uses_channel
        self.constants += writer.constants
        self.stored = name if kind == step.result.type else f"({step.result.type}){name}"

    @property
    def title(self) -> str:
        """What the function does, for its comment."""
        done = [f"{op.mnemonic} {op.result.origin}" for op in self.step.ops]
        return comment_text("; ".join(done)) if done else f"{self.step.source.layout.value} to the other layout"

    @property
    def layer(self) -> str:
        """What the function computes, as the inside of a C string: the ONNX name of its first operation's result."""
        name = self.step.ops[0].result.origin.short if self.step.ops else "layout"
        return re.sub(r"[^A-Za-z0-9_./: -]", "_", name)

    @property
    def parameters(self) -> list[Parameter]:
        """What it reads, the result, its scratch, and which bands it computes."""
        step, scratch = self.step, zip(self.step.scratch, self.step.scratch_names, strict=True)
        found = [Parameter(f"const {step.source.type} *{self.restrict}", "x")]
        found += [Parameter(f"const {t.type} *{self.restrict}", f"r{i}") for i, t in enumerate(step.added)]
        found.append(Parameter(f"{step.result.type} *{self.restrict}", "y"))
        found += [Parameter(f"{buffer.type} *restrict ", name) for buffer, name in scratch]
        return found if step.bands is None else [*found, Parameter("int32_t ", "begin"), Parameter("int32_t ", "end")]

    @property
    def parted_band(self) -> tuple[str, str] | None:
        """C expressions of the first band of part number `part`, and of the end; None where there is one part."""
        bands, parts = self.step.bands, self.step.threads
        return None if parts == 1 else (f"part * {bands} / {parts}", f"(part + 1) * {bands} / {parts}")

    def call(self, arena: Arena, places: Mapping[str, str], band: tuple[str, str] | None = None) -> str:
        """The call that computes the result; `band`, C expressions of the first and the end, computes a part of it.

        places  C expressions of the buffers that are not in the arena
        """
        step = self.step

        def pointer(buffer: Buffer) -> str:
            return arena.slots[buffer.name].address if buffer.place is Place.ARENA else places[buffer.name]

        def own(buffer: Buffer) -> str:
            return f" + part * {buffer.elements // step.threads}" if step.threads > 1 else ""

        arrays = [pointer(tensor.buffer) for tensor in (*step.reads, step.result)]
        scratch = [pointer(buffer) + own(buffer) for buffer in step.scratch]
        limits = [] if step.bands is None else band or ["0", str(step.bands)]
        return f"{self.name}({', '.join([*arrays, *scratch, *limits])});"


class _ConvolutionFunction(StepFunction[ConvolutionStep]):
    """weight, bias: the C expressions of the arrays; no bias where all of it is 0."""

    weight: str
    bias: str

    def _write(self) -> None:
        step = self.step
        self.weight, self.bias = f"{self._base}_weight", ""
        self.constants.append(_weights(self.weight, step))
        if step.bias is not None and step.bias.any():
            self.bias = f"{self._base}_bias"
            filled = (step.sums, step.filled_bias) if step.starts_biased else (narrowest_signed(step.bias), step.bias)
            self.constants.append(ConstantArray(self.bias, *filled, "bias"))
        adds_bias = self.bias != "" and not step.starts_biased
        self._write_stages(f"sum + {self.bias}[c]" if adds_bias else "sum", step.sums)
        self.needs_channel |= adds_bias

    @cached_property
    def loops(self) -> Sequence[AnyLoops]:
        """The loops: one for each form of its parts."""
        return convolution_loops(self.name, self.parameters, self.weight, self.step)

    @property
    def part_calls(self) -> list[str]:
        """Where the loops are functions of their own: a call for each part."""
        return part_calls(self.loops, self.weight, self.step)


class _PoolFunction(StepFunction[PoolStep]):
    """factors: the C expression of the array that sums are multiplied by; "" where there is none."""

    factors: str

    def _write(self) -> None:
        step = self.step
        self.factors = ""
        if step.factors is not None:
            self.factors = f"{self._base}_factors"
            self.constants.append(ConstantArray(self.factors, narrowest_signed(step.factors), step.factors, "factors"))
        self._write_stages("sum", step.sums)

    @property
    def start(self) -> str:
        """What sums start from; or a maximum, a code that no tap is below."""
        return literal(self.step.source.low if self.step.is_max else 0, self.step.sums)


class _MapFunction(StepFunction[MapStep]):
    def _write(self) -> None:
        source = self.step.source
        kind = sum_type(source.low, source.high)
        self._write_stages("x[i]" if source.type == kind else f"({kind})x[i]", kind, "i")


class _CopyFunction(StepFunction[CopyStep]):
    def _write(self) -> None:
        """Elements stay what they are."""

    @property
    def conversion(self) -> str:
        """The cast of an element."""
        return "" if self.step.source.type == self.step.result.type else f"({self.step.result.type})"


def _weights(name: str, step: ConvolutionStep) -> ConstantArray:
    """Of all parts, one after the other."""
    parts = [part.weight.reshape(-1) for part in step.parts]
    weights = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if step.packed:
        packed = packed_bytes(weights, step.packed)
        return ConstantArray(name, _UINT8, packed, f"weights of {step.packed} bits", step.aligned)
    return ConstantArray(name, step.weight_type, weights, "weights", step.aligned)
