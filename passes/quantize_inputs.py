"""What stands between an input and its quantizer changes places with the quantizer, so that the host can apply it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import ClassVar

from pefslc.geometry.shapes import Shape
from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import BatchNorm, BiasAdd, Clip, LeakyRelu, Quantize, Relu, Scaling
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Structural, Transpose, Upsample
from pefslc.ir.value import Op, TensorType, Value
from pefslc.numeric.quantizer import chain_value
from pefslc.numeric.stages import Affine, Stage, direction
from pefslc.passes.manager import Exactness

__all__ = ["QuantizeInputs"]


class QuantizeInputs:
    """input -> movement, affine, activation -> quantize  ==>  input -> quantize with stages -> movement, exactly.

    Movement commutes with what acts on each element; a maximum with what does not fall; padding by 0 where 0 has the
    code of the value 0. Affine maps and activations become stages. A quantizer that does not reach an input this way
    stays where it is.
    """

    name: ClassVar[str] = "quantize-inputs"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        producers, inputs = graph.producers(), {i.value.name for i in graph.inputs}
        ops: list[Op] = []
        for op in graph.ops:
            if isinstance(op, Quantize) and op.channel_axis == 1 and op.input.name not in inputs:
                ops += _Moved.towards_inputs(op, producers, inputs) or [op]
            else:
                ops.append(op)
        return graph.with_ops(ops)


class _UnmovedError(Exception):
    """The quantizer does not commute with something on its way."""


class _Moved:
    """One quantizer on its way to the inputs: the operations that take its place."""

    def __init__(self, quantize: Quantize, producers: dict[str, Op], inputs: set[str]) -> None:
        self.quantize = quantize
        self.producers = producers
        self.inputs = inputs
        self.ops: list[Op] = []
        self.count = 0

    @classmethod
    def towards_inputs(cls, quantize: Quantize, producers: dict[str, Op], inputs: set[str]) -> list[Op] | None:
        """The operations that make the same result, the quantizers first; None where something does not commute."""
        moved = cls(quantize, producers, inputs)
        try:
            moved.quantized(quantize.input, quantize.stages, 1, quantize.result)
        except _UnmovedError:
            return None
        return moved.ops

    def quantized(self, value: Value, stages: tuple[Stage, ...], axis: int, result: Value | None = None) -> Value:
        """`quantizer(stages(value))`, the channels along `axis`: appends what makes it. Raises _UnmovedError."""
        if result is None:
            kind = TensorType(value.type.shape, self.quantize.quantization)
            self.count += 1
            name = f"{self.quantize.result.name}.before{self.count}"
            result = Value(name, kind, value.origin if value.origin.node else self.quantize.result.origin)
        if value.name in self.inputs:
            self.ops.append(replace(self.quantize, result=result, input=value, stages=stages, channel_axis=axis))
            return result
        op = self.producers.get(value.name)
        if isinstance(op, BatchNorm | BiasAdd | Scaling | Relu | LeakyRelu | Clip):
            if getattr(op.stage, "channels", 1) > 1:
                if axis != 1 and self._channels(stages) > 1:
                    raise _UnmovedError
                axis = 1
            stages = (op.stage, *stages)
            if sum(isinstance(s, Affine) and s.has_root for s in stages) > 1:
                raise _UnmovedError  # merge-stages refuses it, where it stands
            return self.quantized(op.input, stages, axis, result)
        if not isinstance(op, Structural):
            raise _UnmovedError
        before = self._axis_before(op, stages, axis)
        sources = iter([self.quantized(v, stages, before) for v in op.operands])
        if isinstance(op, Concat):
            self.ops.append(replace(op, result=result, inputs=tuple(sources)))
        else:
            self.ops.append(replace(op, result=result, input=next(sources)))
        return result

    def _channels(self, stages: tuple[Stage, ...]) -> int:
        """Of how many channels the codes differ for the same number; 1 where they are those of the whole tensor."""
        steps = len(self.quantize.quantization.scale.steps)
        return max([steps, *(getattr(stage, "channels", 1) for stage in stages)])

    def _axis_before(self, op: Structural, stages: tuple[Stage, ...], axis: int) -> int:
        """Where the channels lie in front of `op`, with which the quantizer commutes. Raises _UnmovedError."""
        channels = self._channels(stages)
        match op:
            case MaxPool() if any(direction(stages, c) not in (0, 1) for c in range(channels)):
                raise _UnmovedError
            case Pad() if not all(self._keeps_zero(stages, c) for c in range(channels)):
                raise _UnmovedError
        if channels == 1:
            return axis
        match op:
            case Reshape():
                before = _same_axis(op.input.type.shape, op.result.type.shape, axis)
            case Transpose():
                before = op.permutation[axis]
            case Concat():
                before = None if op.axis == axis else axis
            case Pad():
                before = None if op.before[axis] or op.after[axis] else axis
            case Upsample():
                before = axis if op.factors[axis] == 1 else None
            case Slice():
                before = axis if op.ranges[axis] == range(op.input.type.shape[axis]) else None
            case MaxPool():
                before = 1 if axis == 1 else None
        if before is None or (before != 1 and self.quantize.quantization.scale.per_channel):
            raise _UnmovedError
        return before

    def _keeps_zero(self, stages: tuple[Stage, ...], channel: int) -> bool:
        """Whether the number 0 gets the code of the value 0, which is what pads codes."""
        code = self.quantize.quantizer.code_of(chain_value(stages, Fraction(0), channel), channel)
        return code == self.quantize.quantization.zero_point


def _same_axis(before: Shape, after: Shape, axis: int) -> int | None:
    """The axis of `before` that a reshape leaves as axis `axis` of `after`; None where there is none."""
    for candidate, size in enumerate(before):
        if size == after[axis] and prod(before[:candidate]) == prod(after[:axis]):
            return candidate
    return None
