"""What stands before a quantizer moves into it: BatchNorm, biases, activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import Apply, BatchNorm, BiasAdd, Clip, LeakyRelu, Quantize, Relu, Scaling
from pefslc.ir.value import Op
from pefslc.numeric.stages import Affine, Stage
from pefslc.passes.manager import Exactness

__all__ = ["MergeActivations", "MergeBatchNorm", "check_single_root"]


class MergeBatchNorm:
    """batch_norm -> [activation] -> quantize  ==>  quantize with the batch_norm as a stage, exactly.

    Also moves a separated bias and a constant factor. Runs after `merge-activations`, so that the quantizer is next to
    it. The rewrite copies where the BatchNorm has other readers; dead code removes what nobody reads.
    """

    name: ClassVar[str] = "merge-batch-norm"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        return _merge(graph, (BatchNorm, BiasAdd, Scaling))


class MergeActivations:
    """relu, leaky_relu, clip or apply -> quantize  ==>  quantize with the activation as a stage, exactly."""

    name: ClassVar[str] = "merge-activations"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        return _merge(graph, (Relu, LeakyRelu, Clip, Apply))


def _merge(
    graph: Graph, kinds: tuple[type[BatchNorm | BiasAdd | Scaling | Relu | LeakyRelu | Clip | Apply], ...]
) -> Graph:
    producers = graph.producers()
    ops: list[Op] = []
    for op in graph.ops:
        if isinstance(op, Quantize) and op.channel_axis == 1:
            op = _absorb(op, kinds, producers)
        ops.append(op)
    return graph.with_ops(ops)


def _absorb(
    op: Quantize,
    kinds: tuple[type[BatchNorm | BiasAdd | Scaling | Relu | LeakyRelu | Clip | Apply], ...],
    producers: dict[str, Op],
) -> Quantize:
    while isinstance(source := producers.get(op.input.name), kinds):
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
