"""What stands before a quantizer moves into it: BatchNorm, biases, activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import Apply, BatchNorm, BiasAdd, Clip, LeakyRelu, Quantize, Relu, Scaling
from pefslc.ir.value import Op
from pefslc.numeric.stages import Affine, Stage
from pefslc.passes.manager import Exactness

__all__ = ["Absorbed", "MergeStages", "check_single_root"]

Absorbed = BatchNorm | BiasAdd | Scaling | Relu | LeakyRelu | Clip | Apply  # each has a `stage`


class MergeStages:
    """batch_norm, bias_add, scaling, activations -> quantize  ==>  quantize with them as stages, exactly.

    The rewrite copies where one of them has other readers; dead code removes what nobody reads.
    """

    name: ClassVar[str] = "merge-stages"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        producers = graph.producers()
        return graph.with_ops(
            _absorb(op, producers) if isinstance(op, Quantize) and op.channel_axis == 1 else op for op in graph.ops
        )


def _absorb(op: Quantize, producers: Mapping[str, Op]) -> Quantize:
    while isinstance(source := producers.get(op.input.name), Absorbed):
        stages = (source.stage, *op.stages)
        check_single_root(stages, source)
        op = replace(op, input=source.input, stages=stages)
    return op


def check_single_root(stages: Sequence[Stage], reader: Op) -> None:
    """Raises CompileError where a chain before a quantizer holds two square roots (see `numeric.stages`)."""
    if sum(isinstance(s, Affine) and s.has_root for s in stages) > 1:
        raise CompileError(
            Code.TWO_BATCHNORMS,
            "two BatchNormalizations stand before one quantizer",
            at=reader.result.origin,
            hint="quantize between them, or fold one into its convolution before exporting",
        )
