"""The networks of ../shared/zoo that a 16-bit TCU runs, on every board, from the emitted files: exact, or bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from pefslc.artifacts.sidecar import make_sidecar
from pefslc.frontend import import_model
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import apply_output_map, quantize_input, run_codes
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline
from pefslc.targets.protocol import TargetOptions
from pefslc.targets.tensil.target import TensilTarget

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"
BOARDS = ("pynqz1", "custom_perf", "zcu104")
EXACT = (
    "pefsl_resnet9_16_strided_bnfold_q2_3",
    "pefsl_resnet9_16_strided_bnfold_q3_3",
    "resnet20_cifar_bnfold_q2_4",
    "cnn_bnfold_q2_3",
    "cnn_bnfold_q2_3_dynamo",
    "cnn_bnfold_q3_4",
    "cnn_int8bias",
    "cnn_int32bias",
    "mlp_biasq_q3_4",
    "mlp_q2_3",
    "cnn_q1_2",
    "cnn_q2_3",
    "cnn_q2_3_olddomain",
    "cnn_q2_3_signedrelu",
    "cnn_round_floor",
    "cnn_round_round_to_zero",
    "cnn_w4a4_float",
)
BOUNDED = ("cnn_a2q16_baked", "concat_q3_4", "mobilenet_dws_q3_5", "signed_norelu_q2_4")
CASES = [(network, board) for network in EXACT for board in BOARDS] + [("cnn_bnfold_q2_3", "cmoda7")]
needs_zoo = pytest.mark.skipif(not ZOO.is_dir(), reason="optional reference data (../shared) is not there")


@needs_zoo
@pytest.mark.parametrize(("network", "board"), CASES)
def test_the_simulated_program_equals_y_ref64(network: str, board: str, tmp_path: Path) -> None:
    target, options = TensilTarget(arch=board), TargetOptions()
    graph, _ = run_passes(import_model(ZOO / f"{network}.onnx"), pipeline(target.limits(options)))
    emission = target.lower(graph, options)
    assert all(report.exact for report in emission.ops.values())
    for name, content in emission.files.items():
        (tmp_path / name).write_bytes(content)
    data = np.load(ZOO / f"{network}.npz")
    sidecar = make_sidecar(graph, "tensil", "0", "", emission.files, emission.details)
    codes = {i.name: quantize_input(i, data["x"].astype(np.float64)) for i in graph.inputs}
    (output,) = graph.outputs
    values = apply_output_map(output, target.runner(tmp_path, sidecar).run(codes)[output.name])
    assert np.array_equal(values, data["y_ref64"].reshape(values.shape))


@needs_zoo
@pytest.mark.parametrize(("network", "board"), [(n, BOARDS[i % 3]) for i, n in enumerate(BOUNDED)])
def test_what_is_bounded_differs_only_where_the_compile_said(network: str, board: str) -> None:
    """The files compute the predicted graph; and what a layer gets wrong, given its accumulators, is listed."""
    program = pefslc.compile(ZOO / f"{network}.onnx", target="tensil", arch=board)
    assert not program.exact
    assert program.verify(ZOO / f"{network}.npz").as_predicted
    computed = program.emission.computed
    assert computed is not None
    x = np.load(ZOO / f"{network}.npz")["x"].astype(np.float64)
    values = run_codes(computed, {i.name: quantize_input(i, x) for i in computed.inputs})
    for op in program.graph.of_type(Requantize):
        accumulators, codes = values[op.input.name], values[op.result.name]
        expected = op.staircase(accumulators, channel_axis=1)
        deviations = program.emission.ops[op.result.name].deviations
        listed = np.zeros_like(codes)
        for d in () if deviations is None else deviations.found:
            among = (accumulators[:, d.channel] >= d.first) & (accumulators[:, d.channel] <= d.last)
            listed[:, d.channel] += np.where(among, d.by, 0)
        assert np.array_equal(codes - expected, listed)
