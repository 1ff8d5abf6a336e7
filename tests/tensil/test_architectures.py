"""Random networks on random architectures: exact and legal, or refused with what is needed and what is there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tensil_architectures import NARROW, SMALL, UPWARDS, WIDE, sane_architecture, tiny_architecture
from tensil_support import emit, random_codes, simulate

from builders import Feature, import_bytes, lower, random_network
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.check.checker import check_program
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.program.tmodel import load_tmodel

# What a refusal must say: numbers of what is needed and of what is there.
REFUSALS = {
    Code.ACCUMULATOR_OVERFLOW: r"the accumulator needs \d+ bits, .+ has \d+",
    Code.TCU_NOT_EXACT: r"no exact sequence was found on FP\d+BP\d+: .+",
    Code.TCU_WORD: r"(weights|codes|the input|its codes).* \d+ bits.* FP\d+BP\d+",
    Code.TCU_LOCAL_MEMORY: r"local memory has \d+ vectors, .+ needs \d+( free and finds \d+)?",
    Code.TCU_ACCUMULATORS: r"the accumulators have \d+ vectors, .+ need \d+",
    Code.TCU_DRAM0: r"DRAM0 has \d+ vectors, .+ needs \d+ free and finds \d+",
    Code.TCU_DRAM1: r"DRAM1 has \d+ vectors, .+ need \d+",
}


def says_what_is_missing(problem: Problem) -> bool:
    pattern = REFUSALS.get(problem.code)
    return pattern is not None and re.fullmatch(pattern, problem.message) is not None and bool(problem.hint)


def exact_or_refused(seed: int, feature: Feature, architecture: Architecture, folder: Path) -> bool:
    """Whether the network of this seed compiles. Then its codes are the interpreter's and its program is legal."""
    graph = lower(import_bytes(random_network(seed, feature), folder))
    try:
        emission = emit(graph, architecture, folder)
    except CompileError as e:
        unclear = [p for p in e.problems if not says_what_is_missing(p)]
        assert not unclear  # both ways out are right; the one that raises says why
        return False
    assert check_program(load_tmodel(next(folder.glob("*.tmodel")))) == []
    inputs = random_codes(graph, seed)
    expected, found = run_codes(graph, inputs), simulate(graph, emission, folder, inputs)
    for output in graph.outputs:
        assert np.array_equal(found[output.name], expected[output.value.name])
    return True


@pytest.mark.parametrize("seed", range(60))
def test_small_networks_on_tiny_memories(seed: int, tmp_path: Path) -> None:
    exact_or_refused(seed, SMALL, tiny_architecture(seed), tmp_path)


@pytest.mark.parametrize("seed", range(60))
def test_networks_on_sane_architectures(seed: int, tmp_path: Path) -> None:
    exact_or_refused(seed, (SMALL, NARROW, WIDE)[seed % 3], sane_architecture(seed), tmp_path)


@pytest.mark.parametrize("seed", range(30))
def test_decoders_on_any_architecture(seed: int, tmp_path: Path) -> None:
    architecture = (tiny_architecture if seed % 2 else sane_architecture)(seed)
    exact_or_refused(seed, UPWARDS, architecture, tmp_path)
