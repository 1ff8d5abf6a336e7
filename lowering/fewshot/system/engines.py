"""The three ways to run a backbone: the compiled C, the simulated TCU, and the reference evaluation of the ONNX.

The first two agree on every code. Only what an engine needs is loaded: the C needs neither onnx nor the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import Sidecar, load_sidecar, sidecar_name
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.fewshot.system.backbone import Backbone, Runs
from pefslc.fewshot.system.description import SystemDescription
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.format import Quantization, saturate
from pefslc.numeric.quantize import quantize_array
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.targets.c.library_cache import LibraryCache
from pefslc.targets.c.runner import CRunner

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph

__all__ = ["COMPILED", "ENGINES", "LIBRARIES", "open_engine"]

Codes = NDArray[np.int64]

COMPILED, SIMULATED = "c", "tensil"
ENGINES = (COMPILED, SIMULATED, "float")
LIBRARIES = ".pefslc-libraries"  # in the system's folder: the compiled C


@dataclass(frozen=True, slots=True)
class _FloatRunner:
    """The network as its file says, in float64, from the values that the input codes stand for.

    Its features are rounded onto the grid of the codes, half to even, so that a head can be asked what it decides.
    """

    graph: Graph
    backbone: Backbone

    def run(self, inputs: Mapping[str, Codes], /) -> dict[str, Codes]:
        ends = self.backbone
        q = ends.quantizer.quantization
        steps = np.array([float(s) for s in q.scale.steps]).reshape(1, -1, 1, 1)
        values = (inputs[ends.input] - q.zero_point) * steps
        (features,) = self.graph.run({ends.input: values}).values()
        bits = bits_for_range(ends.low, ends.high)
        grid = Quantizer(Quantization(bits=bits, signed=ends.low < 0, scale=Scale((ends.scale,))))
        return {ends.output: saturate(quantize_array(grid, features, 1), ends.low, ends.high)}


def open_engine(folder: Path, description: SystemDescription, engine: str) -> tuple[Backbone, Runs]:
    """What runs the backbone of a system, and its ends. Raises CompileError.

    engine  "c", "tensil" or "float"
    """
    if engine not in ENGINES:
        raise CompileError(
            Code.NO_ENGINE, f"there is no engine {quote_given(engine)}", hint=f"one of {', '.join(description.engines)}"
        )
    if engine not in description.engines:
        raise CompileError(
            Code.NO_ENGINE,
            "the system was not built for a Tensil board: there is nothing to simulate",
            hint="build it for a board, --arch pynqz1 or arch='pynqz1'; or use the engine c",
        )
    sidecar = load_sidecar(folder / sidecar_name(description.name, SIMULATED if engine == SIMULATED else COMPILED))
    backbone = Backbone.of(sidecar)
    if engine == COMPILED:
        return backbone, CRunner(folder, sidecar, LibraryCache(folder / LIBRARIES))
    if engine == SIMULATED:
        return backbone, _simulated(folder, sidecar)
    from pefslc.driver.compiler import load

    return backbone, _FloatRunner(load(folder / description.backbone, batch=1), backbone)


def _simulated(folder: Path, sidecar: Sidecar) -> Runs:
    from pefslc.driver.target_registry import find_target

    return find_target(SIMULATED).runner(folder, sidecar)
