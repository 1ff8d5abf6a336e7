"""Every file of ../shared/zoo_bad is compiled correctly or refused with its code: quickly, in little memory, alone."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import pefslc

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT.parent / "shared" / "zoo_bad"
CALIBRATION = ["PEF0304"]
# What each file is refused with; "compiled" where it is legal and means something.
EXPECTED = {
    "_valid_base": ["compiled"],
    "auto_pad_same_lower": ["compiled"],
    "bitwidth_fractional": ["PEF0302"],
    "bitwidth_nan": ["PEF0302"],
    "bitwidth_negative": ["PEF0302"],
    "bitwidth_zero": ["PEF0302"],
    "conv1d": ["compiled"],
    "conv3d": ["PEF0407"],
    "dangling_output": ["PEF0204"],
    "declared_output_shape_wrong": ["PEF0210"],
    "duplicate_initializer_names": ["PEF0203"],
    "duplicate_output_names": ["PEF0203"],
    "dynamic_batch": ["PEF0206"],
    "empty_file": ["PEF0103"],
    "empty_graph": ["PEF0201", "PEF0204"],
    "evil_tensor_names": ["compiled"],
    "external_data_absolute": ["PEF0106"],
    "external_data_missing": ["PEF0106"],
    "float_quant": ["PEF0401"],
    "function_proto": ["compiled"],
    "group_not_dividing": ["PEF0408"],
    "huge_dims_tiny_data": ["PEF0107"],
    "huge_input": ["PEF0209"],
    "if_subgraph": ["compiled"],
    "inf_scale": CALIBRATION,
    "inf_weights": ["PEF0211"],
    "input_dtype_string": ["PEF0207"],
    "ir_version_too_new": ["compiled"],
    "missing_opset_import": ["compiled"],
    "nan_scale": CALIBRATION,
    "negative_scale": CALIBRATION,
    "no_graph": ["PEF0201"],
    "no_output": ["PEF0201"],
    "no_quant_on_input": ["PEF0308"],
    "nonconstant_scale": ["PEF0402", "PEF0405"],
    "nonpot_scale": ["compiled"],
    "not_topologically_sorted": ["compiled"],
    "overflow_dims": ["PEF0107"],
    "per_input_channel_scale": ["PEF0305"],
    "qonnx_opset_too_new": ["PEF0105"],
    "quant_missing_input": ["PEF0301"],
    "random_bytes": ["PEF0103"],
    "rounding_mode_garbage": ["PEF0306"],
    "scale_is_graph_input": ["PEF0405", "PEF0407"],
    "scale_wrong_dtype": CALIBRATION,
    "signed_attr_invalid": ["PEF0307"],
    "truncated_protobuf": ["PEF0103"],
    "unknown_domain": ["PEF0401"],
    "unknown_op_qonnx_domain": ["PEF0401"],
    "unknown_rank_input": ["PEF0206"],
    "wrong_bias_length": ["PEF0408"],
    "wrong_gemm_shape": ["PEF0408"],
    "wrong_kernel_shape_attr": ["PEF0408"],
    "wrong_weight_channels": ["PEF0408"],
    "zero_dim": ["PEF0208"],
    "zero_scale": CALIBRATION,
    "zeropoint_fractional": ["PEF0303"],
    "zeropoint_nonzero": ["compiled"],
}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/zoo_bad")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("zoo_bad")
    models = []
    for source in sorted(FOLDER.glob("*.onnx")):
        own = folder / source.stem  # so that what a compile leaves is seen
        own.mkdir()
        models.append(own / source.name)
        models[-1].write_bytes(source.read_bytes())
    assert models[0].stem == "_valid_base"
    worker = ROOT / "tests" / "hostile_worker.py"
    out = folder / "report.json"
    subprocess.run([sys.executable, worker, out, *models], check=True, timeout=300, cwd=folder)
    return dict(json.loads(out.read_text()))


def test_all_files_are_expected(report: dict[str, object]) -> None:
    assert {str(r["model"]) for r in report["results"]} == set(EXPECTED)  # type: ignore[attr-defined]


def test_little_memory_is_used(report: dict[str, object]) -> None:
    assert report["peak_kilobytes"] < 300_000  # type: ignore[operator]


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize("name", EXPECTED)
def test_compiled_or_refused(name: str, target: str, report: dict[str, object]) -> None:
    results = report["results"]
    [result] = [r for r in results if (r["model"], r["target"]) == (name, target)]  # type: ignore[attr-defined]
    if target == "c":
        assert result["codes"] == EXPECTED[name]
    else:  # the TCU may have reasons of its own, for what C compiles
        own = {code for code in result["codes"] if code.startswith(("PEF05", "PEF06"))}
        assert set(result["codes"]) - own <= set(EXPECTED[name])
        assert own or result["codes"] == EXPECTED[name]
    assert result["seconds"] < 5
    assert result["left"] == []
    allowed = (str(ROOT), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/dev", "/proc/self")
    foreign = [f for f in result["files"] if not f.startswith(allowed) and Path(f).parent.name != name]
    assert foreign == []


@pytest.mark.parametrize("name", [name for name, codes in EXPECTED.items() if codes == ["compiled"]])
def test_what_compiles_computes_the_model(name: str) -> None:
    program = pefslc.compile(FOLDER / f"{name}.onnx", target="c", check_passes=True)
    [graph_input] = program.graph.inputs
    inputs = np.random.default_rng(0).normal(0, 2, (4, *graph_input.value.type.shape[1:]))
    assert program.verify({graph_input.name: inputs}).equal
