"""A batch in C: the network runs for one row after the other, in the working memory of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder
from integer_graphs import random_graph, random_inputs
from pefslc.artifacts.sidecar import make_sidecar
from pefslc.ir.batch import batch_of, with_batch
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.c.runner import CRunner
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import Emission, TargetOptions


def graph_of_one_row(seed: int) -> Graph:
    """A random graph, with a batch of 1."""
    graph = random_graph(seed)
    assert batch_of(graph) is not None
    return with_batch(graph, 1)


def saved(graph: Graph, folder: Path, target: CTarget) -> Emission:
    emission = target.lower(graph, TargetOptions())
    for name, content in emission.files.items():
        (folder / name).write_bytes(content)
    return emission


@pytest.mark.parametrize(
    ("seed", "batch", "target"),
    [
        (0, 2, CTarget()),
        (1, 3, CTarget(caller_arena=True)),
        (2, 5, CTarget(weights="binary")),
        (3, 4, CTarget()),
        (4, 3, CTarget(caller_arena=True, weights="binary")),
    ],
)
def test_rows_of_a_batch_equal_the_interpreter(seed: int, batch: int, target: CTarget, tmp_path: Path) -> None:
    """Any number of rows: the last batch is filled up."""
    graph = with_batch(graph_of_one_row(seed), batch)
    emission = saved(graph, tmp_path, target)
    sidecar = make_sidecar(graph, "c", "0", "", emission.files, emission.details)
    inputs = {name: codes[: 2 * batch + 1] for name, codes in random_inputs(graph, 3, seed).items()}
    expected, found = run_codes(graph, inputs), CRunner(tmp_path, sidecar).run(inputs)
    for output in graph.outputs:
        assert np.array_equal(found[output.name], expected[output.value.name])


def test_an_input_may_be_called_as_the_loop_over_rows_is(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([2, 4], "row"), 0.125, 5)
    m.output(m.node("Gemm", x, m.weight(np.eye(4), 0.25, 4), transB=1), [2, 4])
    program = pefslc.compile(m.save(tmp_path), target="c")
    inputs = {"row": np.random.default_rng(0).normal(size=(3, 4))}
    expected, found = program.graph.run(inputs), program.run(inputs)
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_a_batch_takes_the_working_memory_of_one_row(tmp_path: Path) -> None:
    one = graph_of_one_row(0)
    alone, many = (saved(graph, tmp_path, CTarget()) for graph in (one, with_batch(one, 7)))
    assert many.details["arena_bytes"] == alone.details["arena_bytes"]
    assert many.details["constant_bytes"] == alone.details["constant_bytes"]
    header = next(content for name, content in many.files.items() if name == many.details["header"]).decode()
    assert "A run takes 7 rows" in header
