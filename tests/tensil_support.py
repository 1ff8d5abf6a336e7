"""Shared by the tests of the TCU lowering: emit a graph's files, simulate them, random inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pefslc.artifacts.sidecar import make_sidecar
from pefslc.ir.graph import Graph
from pefslc.targets.protocol import Emission, TargetOptions
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.target import TensilTarget


def emit(graph: Graph, architecture: Architecture, folder: Path) -> Emission:
    """Lower and write the files; the architecture goes through a .tarch file, as a user's does."""
    tarch = folder / "a.tarch"
    tarch.write_text(json.dumps(architecture.to_json_dict()))
    emission = TensilTarget(arch=tarch).lower(graph, TargetOptions())
    for name, content in emission.files.items():
        (folder / name).write_bytes(content)
    return emission


def simulate(graph: Graph, emission: Emission, folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    sidecar = make_sidecar(graph, "tensil", "0", b"", emission.files, emission.details)
    return TensilTarget().runner(folder, sidecar).run(inputs)


def random_codes(graph: Graph, seed: int, batch: int = 2) -> dict[str, np.ndarray]:
    r = np.random.default_rng(seed)
    return {
        i.name: r.integers(i.value.type.codes.low, i.value.type.codes.high + 1, (batch, *i.value.type.shape[1:]))
        for i in graph.inputs
    }
