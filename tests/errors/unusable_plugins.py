"""Passes and a target of a user that refuse or fail."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pefslc
from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.sidecar import Sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.ir.graph import Graph, Level
from pefslc.passes.manager import Exactness
from pefslc.targets.protocol import Emission, TargetOptions


class Refuses:
    name: ClassVar[str] = "refuses"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        raise pefslc.CompileError(Code.PLUGIN_REFUSES, "the network has no attention", at=graph.ops[-1].result.origin)


class Fails(Refuses):
    name: ClassVar[str] = "fails"

    def run(self, graph: Graph) -> Graph:
        raise IndexError(f"{len(graph.ops)} operations, and none is an attention")


class ForgetsTheFiles:
    """A target."""

    __module__ = "notebook"  # whose classes have no file
    name = "board"

    def limits(self, _: TargetOptions) -> TargetLimits:
        return TargetLimits(32, "the accumulator")

    def lower(self, *_: object) -> Emission:
        return Emission({"model.bin": "weights"}, {})  # type: ignore[dict-item]

    def runner(self, folder: Path, sidecar: Sidecar) -> None:
        raise NotImplementedError
