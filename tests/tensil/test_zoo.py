"""The networks of ../shared/zoo that a 16-bit TCU runs: exact on every board, from the emitted files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pefslc.frontend import import_model
from pefslc.interpret import apply_output_map, quantize_input
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline
from pefslc.sidecar import make_sidecar
from pefslc.targets.protocol import TargetOptions
from pefslc.targets.tensil.target import TensilTarget

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"
BOARDS = ("pynqz1", "custom_perf", "zcu104")
NETWORKS = (
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
)
CASES = [(network, board) for network in NETWORKS for board in BOARDS] + [("cnn_bnfold_q2_3", "cmoda7")]


@pytest.mark.skipif(not ZOO.is_dir(), reason="optional reference data (../shared) is not there")
@pytest.mark.parametrize(("network", "board"), CASES)
def test_the_simulated_program_equals_y_ref64(network: str, board: str, tmp_path: Path) -> None:
    target, options = TensilTarget(), TargetOptions(arch=board)
    graph, _ = run_passes(import_model(ZOO / f"{network}.onnx"), pipeline(target.limits(options)))
    emission = target.lower(graph, options)
    for name, content in emission.files.items():
        (tmp_path / name).write_bytes(content)
    data = np.load(ZOO / f"{network}.npz")
    sidecar = make_sidecar(graph, "tensil", "0", b"", emission.files, emission.details)
    codes = {i.name: quantize_input(i, data["x"].astype(np.float64)) for i in graph.inputs}
    (output,) = graph.outputs
    values = apply_output_map(output, target.runner(tmp_path, sidecar).run(codes)[output.name])
    assert np.array_equal(values, data["y_ref64"].reshape(values.shape))
