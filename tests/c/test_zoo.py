"""The trained networks of ../shared/zoo: the compiled C gives y_ref64."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pefslc.artifacts.sidecar import make_sidecar
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend import import_model
from pefslc.ir.interpret import apply_output_map, quantize_input, run_codes
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions

_ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
_MODELS = sorted(p.stem for p in _ZOO.glob("*.onnx"))
_FLOAT = {"cnn_float", "pefsl_resnet9_16_strided_float"}  # without quantizers: they need --fmt
_WITHIN = 1e-9  # of values that float64 rounds


def _is_exact_in_float64(values: tuple[Fraction, ...], largest: int) -> bool:
    """Whether each value times each code up to `largest` is a float64."""
    return all(
        power_of_two_exponent(Fraction(1, v.denominator)) is not None and (v.numerator * largest).bit_length() < 53
        for v in values
    )


@pytest.mark.skipif(not _MODELS, reason="optional reference data (../shared) is not there")
@pytest.mark.usefixtures("cc")
@pytest.mark.parametrize("name", _MODELS)
def test_compiled_c_gives_the_reference(name, tmp_path):  # type: ignore[no-untyped-def]
    target = CTarget()
    graph = import_model(_ZOO / f"{name}.onnx")
    if name in _FLOAT:
        with pytest.raises(CompileError, match="has no quantizer"):
            run_passes(graph, pipeline(target.limits(TargetOptions())))
        return
    graph, _ = run_passes(graph, pipeline(target.limits(TargetOptions())))
    emission = target.lower(graph, TargetOptions())
    for file, content in emission.files.items():
        (tmp_path / file).write_bytes(content)
    runner = target.runner(tmp_path, make_sidecar(graph, "c", "0", "", emission.files, emission.details))
    with np.load(_ZOO / f"{name}.npz") as data:
        x, expected = data["x"].astype(np.float64), data["y_ref64"]
    (graph_input,), (output,) = graph.inputs, graph.outputs
    codes = {graph_input.name: quantize_input(graph_input, x)}
    found = runner.run(codes)[output.name]
    np.testing.assert_array_equal(found, run_codes(graph, codes)[output.value.name])
    assert output.map is not None
    if _is_exact_in_float64((*output.map.scale, *output.map.offset), int(np.abs(found).max())):
        np.testing.assert_array_equal(apply_output_map(output, found), expected)
    else:
        assert np.abs(apply_output_map(output, found) - expected).max() <= _WITHIN
