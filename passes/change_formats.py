"""--requantize: a quantized model's weights and activations change to the format that the user named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph, Level, map_operands
from pefslc.ir.quantized import Constant, Quantize, QuantizedConstant
from pefslc.ir.value import Op, Real, RealArray, TensorType, Value
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.quantize import dequantize
from pefslc.passes.check_format import contradicts, quantizer_roles
from pefslc.passes.manager import Exactness
from pefslc.passes.quantize_after_training import holding_codes

__all__ = ["ChangeFormats"]


@dataclass(frozen=True, slots=True)
class ChangeFormats:
    """quantize(x) to some other format  ==>  quantize(x) to `fmt`, for weights and activations.

    Weights are rounded again from the floats of the file where it holds them, else from their quantized values.
    Signedness, narrow range and rounding mode stay the quantizer's own; a zero point goes, and with it unsignedness.
    Biases and other constants stay as they are. Changes the model: `format_changes` counts what became of the codes.
    """

    fmt: FixedPoint
    name: ClassVar[str] = "change-formats"
    exactness: ClassVar[Exactness] = Exactness.CHANGES
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        if self.fmt.bits < 2:
            raise CompileError(
                Code.BAD_FORMAT,
                f"a model cannot be requantized to {self.fmt.describe()}",
                at=graph.name,
                hint="name a format of at least 2 bits",
            )
        changing = {op.result.name for op, _ in quantizer_roles(graph) if contradicts(op.quantization, self.fmt)}
        current: dict[str, Value] = {}
        ops: list[Op] = []
        for original in graph.ops:
            op = map_operands(original, lambda v: current.get(v.name, v))
            new = list(self._changed(op)) if op.result.name in changing else [holding_codes(op)]
            ops += new
            current[op.result.name] = new[-1].result
        if not changing:
            return graph
        return graph.with_ops(ops).with_outputs(current)

    def _changed(self, op: Op) -> Iterator[Op]:
        assert isinstance(op, Quantize | QuantizedConstant)
        old = op.quantization
        new = Quantization(
            bits=self.fmt.bits,
            signed=old.signed or bool(old.zero_point),
            narrow=old.narrow,
            scale=self.fmt.quantization.scale,
        )
        result = replace(op.result, type=replace(op.result.type, element=new))
        if isinstance(op, Quantize):
            yield replace(op, result=result, adds_zero_point_last=False)
            return
        values = RealArray(dequantize(op.codes.data, old, channel_axis=0))
        raw = Value(f"{op.result.name}.values", TensorType(op.result.type.shape, Real()), op.result.origin)
        yield Constant(result=raw, data=values)
        yield Quantize(result=result, input=raw, channel_axis=0)
