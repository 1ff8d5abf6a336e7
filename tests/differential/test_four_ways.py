"""The same integers four ways: float64 evaluation of the model, interpreter, compiled C, simulated TCU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import Feature, random_network
from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.machine.architecture import load_architecture

FEATURE = Feature(batch_norm=False, leaky=False, average_pool=False, most_bits=4)
KEPT = replace(FEATURE, batch_norm=True, leaky=True, average_pool=True)


def compile_both(seed: int, feature: Feature, folder: Path) -> tuple[pefslc.Program, pefslc.Program | None]:
    """The network as C, and for a wide TCU where it is not refused."""
    model = folder / "model.onnx"
    model.write_bytes(random_network(seed, feature).SerializeToString())
    board = {**load_architecture("custom_perf").to_json_dict(), "data_type": "FP32BP16"}
    (folder / "wide.tarch").write_text(json.dumps(board))
    in_c = pefslc.compile(model, target="c")
    try:
        return in_c, pefslc.compile(model, target="tensil", arch=str(folder / "wide.tarch"))
    except CompileError as e:
        if "no exact sequence was found" not in str(e):
            raise
        return in_c, None


def equal_four_ways(programs: list[pefslc.Program], seed: int) -> None:
    """Verified against float64 and the interpreter, and against each other, value for value."""
    (shape,) = (i.value.type.shape for i in programs[0].graph.inputs)
    x = np.random.default_rng(seed).normal(0, 1, (6, *shape[1:]))
    for program in programs:
        verification = program.verify({"x": x})
        assert verification.as_predicted
        assert verification.equal or not program.exact
    values = [program.run(x) for program in programs if program.exact]
    reference = programs[0].lowered.reference.run(x)
    for name in reference:
        assert all(np.array_equal(v[name], values[0][name]) for v in values)


@pytest.mark.parametrize("seed", range(16))
def test_networks_with_folded_batch_norm_agree_four_ways(seed: int, tmp_path: Path) -> None:
    in_c, on_tcu = compile_both(seed, FEATURE, tmp_path)
    assert on_tcu is not None, "a wide TCU runs every power-of-two network"
    equal_four_ways([in_c, on_tcu], seed)


@pytest.mark.parametrize("seed", range(100, 108))
def test_networks_with_batch_norm_and_means_agree_where_they_compile(seed: int, tmp_path: Path) -> None:
    in_c, on_tcu = compile_both(seed, KEPT, tmp_path)
    equal_four_ways([in_c] if on_tcu is None else [in_c, on_tcu], seed)
