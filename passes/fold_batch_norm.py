"""BatchNorm folds into the weights: in float models only, whose weights lie on no grid yet."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import BatchNorm, BiasAdd, Constant, Conv, Linear
from pefslc.ir.value import Op, RealArray, TensorType, Value
from pefslc.numeric.stages import Affine
from pefslc.passes.check_format import is_float
from pefslc.passes.fold_constants import FoldConstants
from pefslc.passes.manager import Exactness

__all__ = ["FoldBatchNorm"]

Floats = NDArray[np.float64]


class FoldBatchNorm:
    """conv -> batch_norm  ==>  conv with scaled weights and a bias; the same for linear, and for a bias_add.

    Only in a float model, and only where nothing else reads the convolution. A BatchNorm that stands elsewhere becomes
    one multiplication and one addition per channel. Bounded: the new constants are rounded to float64, once or twice.
    """

    name: ClassVar[str] = "fold-batch-norm"
    exactness: ClassVar[Exactness] = Exactness.BOUNDED
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        if not is_float(graph):
            return graph
        graph = FoldConstants().run(graph)  # weights behind a Transpose
        readers = graph.reader_counts()
        done: dict[str, Op] = {}
        for op in graph.ops:
            new: tuple[Op, ...] = (op,)
            if isinstance(op, BatchNorm | BiasAdd):
                source = done.get(op.input.name)
                if isinstance(source, Conv | Linear) and readers[op.input.name] == 1:
                    new = _folded(source, op, done) or (_without_root(op),)
                else:
                    new = (_without_root(op),)
            done.update({o.result.name: o for o in new})
        return graph.with_ops(done.values())


def _folded(source: Conv | Linear, norm: BatchNorm | BiasAdd, done: dict[str, Op]) -> tuple[Op, ...] | None:
    """New constants and the layer that reads them, in place of `source` and `norm`; None where they are computed."""
    weight = done.get(source.weight.name)
    bias = None if source.bias is None else done.get(source.bias.name)
    if not isinstance(weight, Constant) or not (source.bias is None or isinstance(bias, Constant)):
        return None
    outputs = weight.data.shape[0]
    factor, offset = (np.broadcast_to(part, (outputs,)) for part in _multiply_add(norm.stage))
    before = bias.data.data if isinstance(bias, Constant) else np.zeros(outputs)
    weights = weight.data.data * factor.reshape(-1, *[1] * (weight.data.data.ndim - 1))
    constants = (
        _constant(f"{norm.result.name}.weight", weight.result, weights),
        _constant(f"{norm.result.name}.bias", norm.result, before * factor + offset),
    )
    return *constants, replace(source, result=norm.result, weight=constants[0].result, bias=constants[1].result)


def _constant(name: str, of: Value, data: Floats) -> Constant:
    shape = tuple(data.shape)
    return Constant(result=Value(name, TensorType(shape, of.type.element), of.origin), data=RealArray(data))


def _multiply_add(stage: Affine) -> tuple[Floats, Floats]:
    """(factor, offset) with stage(x) = factor * x + offset up to float64 rounding."""
    factor, addend, radicand, offset = (
        np.array([float(v) for v in part]) for part in (stage.factor, stage.addend, stage.radicand, stage.offset)
    )
    return factor / np.sqrt(radicand), addend / np.sqrt(radicand) + offset


def _without_root(op: BatchNorm | BiasAdd) -> BatchNorm | BiasAdd:
    """Several may stand before one quantizer, which one square root at most may reach."""
    if not op.stage.has_root:
        return op
    factor, offset = (tuple(Fraction(v) for v in part.tolist()) for part in _multiply_add(op.stage))
    zero, one = (Fraction(0),) * len(factor), (Fraction(1),) * len(factor)
    return replace(op, stage=Affine(factor, zero, one, offset))
