"""Sums that carry no constant, and sums with a clamped tensor: clipped by a second product of what was shifted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.matrix import addition_plan, resident_rows
from pefslc.targets.tensil.schedule import pass_steps


def one_tile(folder: Path) -> Graph:
    r, m = np.random.default_rng(2), ModelBuilder()
    x = m.quant(m.input([1, 5, 12, 12]), 0.25, 4)
    y = m.node("Conv", x, m.weight(r.integers(-7, 8, (6, 5, 1, 1)) * 0.25, 0.25, 4))
    y = m.quant(m.node("Relu", y), 0.5, 4, signed=False)
    m.output(m.quant(m.node("Conv", y, m.weight(r.integers(-7, 8, (3, 6, 1, 1)) * 0.25, 0.25, 4)), 0.5, 5))
    return lower(import_bytes(m.build(), folder))


def clamped_addend(folder: Path) -> Graph:
    """A residual block whose shortcut is the identity: quantized before the sum, it is clamped from above."""
    r, m = np.random.default_rng(3), ModelBuilder()

    def conv(x: str, channels: int) -> str:
        return m.node("Conv", x, m.weight(r.integers(-7, 8, (6, channels, 3, 3)) * 0.25, 0.25, 4), pads=[1, 1, 1, 1])

    x = m.quant(m.node("Relu", conv(m.quant(m.input([1, 3, 12, 12]), 0.25, 5), 3)), 0.25, 5, signed=False)
    total = m.node("Add", m.quant(conv(x, 6), 0.25, 5), m.quant(x, 0.25, 5))
    m.output(conv(m.quant(m.node("Relu", total), 0.25, 5, signed=False), 6))
    return lower(import_bytes(m.build(), folder))


@pytest.mark.parametrize("network", [one_tile, clamped_addend])
@pytest.mark.parametrize("fields", [{}, {"local_depth": 250}, {"accumulator_depth": 60}])
def test_networks_are_exact_and_faster_with_the_second_product(
    network: object, fields: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(network)
    graph, cycles = network(tmp_path), []
    machine = replace(load_architecture("pynqz1"), **fields)
    inputs = random_codes(graph, 1, batch=3)
    expected = run_codes(graph, inputs)
    for without in (False, True):
        if without:
            for module in (resident_rows, pass_steps):
                monkeypatch.setattr(module, "bare_plan", lambda *_: None)
            monkeypatch.setattr(addition_plan, "_with_upper_clip_after", lambda *_: ())
            addition_plan.matrix_plan_with_addend.cache_clear()
        emission = emit(graph, machine, tmp_path)
        found = simulate(graph, emission, tmp_path, inputs)
        assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
        cycles.append(emission.cycles)
    addition_plan.matrix_plan_with_addend.cache_clear()
    shorter, longer = cycles
    assert shorter is not None
    assert longer is not None
    assert shorter <= longer if fields else shorter < longer
