"""Networks for programs of several pictures, and what such a program must compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tensil_support import random_codes

from builders import Feature, ModelBuilder, import_bytes, lower, random_network
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.batch import with_batch
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.check.checker import check_program
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.pipeline import LoweredNetwork, lower_graph
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.runner import Placement
from pefslc.targets.tensil.simulate.simulator import Machine
from pefslc.targets.tensil.target import host_tensors

__all__ = ["assert_computes", "deep_network", "lowered_network"]


def lowered_network(
    seed: int, feature: Feature, architecture: Architecture, folder: Path
) -> tuple[Graph, LoweredNetwork] | None:
    """A random network; None where the architecture refuses it, or does not compute it exactly."""
    graph = lower(import_bytes(random_network(seed, feature), folder))
    try:
        lowered = lower_graph(graph, Context(architecture))
    except CompileError:
        return None
    inexact = any(outcome.bounded for outcome in lowered.program.outcomes)
    return None if inexact or any(s.coarser for s in lowered.split.wide.stands.values()) else (graph, lowered)


def assert_computes(program: TensilProgram, graph: Graph, lowered: LoweredNetwork, batch: int, seed: int) -> None:
    """Two runs on one machine, whose memories start poisoned."""
    assert check_program(program) == []
    whole, architecture = with_batch(graph, batch), program.architecture
    ends = host_tensors(whole, lowered, architecture.data_type)
    inputs, outputs = ([Placement.of(t.to_json(), t.end.value.type.shape) for t in tensors] for tensors in ends)
    machine = Machine(architecture, poison_seed=seed)
    machine.load_constants(program)
    for run in range(2):
        codes = random_codes(whole, seed + run, batch)
        expected = run_codes(whole, codes)
        found = machine.infer(program, {p.name: p.to_raw(codes[p.name], architecture) for p in inputs})
        for output, placement in zip(graph.outputs, outputs, strict=True):
            words = np.asarray(found[output.name], dtype=np.int64)
            assert np.array_equal(placement.from_raw(words, rounds=False), expected[output.value.name])


def deep_network(folder: Path) -> Graph:
    """Many weights and few pixels behind a layer of many pixels."""
    m, r = ModelBuilder(), np.random.default_rng(0)
    x = m.quant(m.input([1, 3, 16, 16], "input"), 0.125, 4)
    for channels, before, strides in ((16, 3, [2, 2]), (48, 16, [2, 2]), (48, 48, [1, 1]), (48, 48, [1, 1])):
        weight = r.integers(-1, 2, (channels, before, 3, 3)) * 0.25
        x = m.node("Conv", x, m.weight(weight, 0.25, 3), strides=strides, pads=[1, 1, 1, 1])
        x = m.quant(m.node("Relu", x), 0.5, 4, signed=False)
    m.output(x, [1, 48, 4, 4])
    return lower(import_bytes(m, folder))
