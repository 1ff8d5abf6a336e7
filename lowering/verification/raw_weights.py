"""Weights that stand in the file as the network was trained, before their quantizer: what Brevitas' own export writes.

It always says that they are rounded to the nearest. A network whose weight quantizers do otherwise - FLOOR, or bounded
for an accumulator - is another one than its file, which shows only where its outputs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import quote
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run
from pefslc.ir.quantized import Constant, Quantize
from pefslc.ir.reference import evaluate_op
from pefslc.ir.value import Op
from pefslc.numeric.rounding import RoundingMode
from pefslc.passes.check_format import quantizer_roles
from pefslc.reports.layer_report import layer_name

__all__ = ["raw_weights_hint"]

Floats = NDArray[np.float64]

_OTHER_MODES = (RoundingMode.FLOOR, RoundingMode.TO_ZERO, RoundingMode.CEIL)
_NOISE = 1e-5  # of the largest output: of float32


def raw_weights_hint(graph: Graph, inputs: Mapping[str, Floats], expected: Mapping[str, Floats]) -> str:
    """What to look at where expected outputs differ and the file holds raw weights; "" where it holds none.

    inputs, expected  by name, some rows
    """
    raw = _raw_quantizers(graph)
    if not raw:
        return ""
    names = ", ".join(quote(layer_name(op.result.origin)) for op in raw[:3]) + (" and others" if len(raw) > 3 else "")
    for mode in _OTHER_MODES:
        found = run(_rounded_by(graph, raw, mode), inputs)
        if all(np.abs(found[n] - y).max() <= _NOISE * np.abs(y).max() for n, y in expected.items()):
            return (
                f"the array is that of weights rounded by {mode.value.upper()}, and the file says that {names} round "
                "to the nearest, as Brevitas' export always does: pefslc.train.export writes what the network computes"
            )
    return (
        f"the file holds the raw weights of {names}, rounded to the nearest by a node, as Brevitas exports them: if "
        "the network's quantizers do otherwise (FLOOR, accumulator-aware), pefslc.train.export writes what it computes"
    )


def _raw_quantizers(graph: Graph) -> list[Quantize]:
    """The weight quantizers of constants that change them by more than the noise of float32."""
    constants = {op.result.name: op.data.data for op in graph.of_type(Constant)}
    found = []
    for op, role in quantizer_roles(graph):
        data = constants.get(op.input.name) if isinstance(op, Quantize) and role == "weight" else None
        if isinstance(op, Quantize) and data is not None and data.size:
            change = np.abs(evaluate_op(op, [data]) - data)
            if change.max() > 1e-6 * np.abs(data).max():
                found.append(op)
    return found


def _rounded_by(graph: Graph, raw: list[Quantize], mode: RoundingMode) -> Graph:
    names = {op.result.name for op in raw}
    ops: list[Op] = [
        replace(op, rounding=mode) if isinstance(op, Quantize) and op.result.name in names else op for op in graph.ops
    ]
    return graph.with_ops(ops)
