"""Inputs on which formats are chosen: what no network's inputs are is refused, before it decides anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import as_batches

__all__ = ["calibration_batches"]

_SMALLEST, _LARGEST = 2.0**-40, 2.0**40


def calibration_batches(graph: Graph, inputs: Arrays) -> tuple[dict[str, NDArray[np.float64]], int]:
    """`as_batches` of data that `--calibrate` gives. Raises CompileError also for magnitudes that mean a mistake."""
    arrays, rows = as_batches(graph, inputs)
    for name, array in arrays.items():
        largest = float(np.abs(array).max())
        if not _SMALLEST <= largest <= _LARGEST:
            what = f"reach {largest:g}" if largest else "are all 0"
            raise CompileError(
                Code.CALIBRATION,
                f"the calibration data of input {quote(name)} {what}: no formats can be chosen from that",
                hint="give inputs as the model will see them",
            )
    return arrays, rows
