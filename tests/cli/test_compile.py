"""Compiling from the shell: what is written, what is said, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import Cli, quantized_mlp

from pefslc.targets.c.target import CTarget


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_bare_model_path_compiles(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    result = pefslc(model, "--target", "fake", "--fmt", "Q2.3", "-o", tmp_path / "build")
    assert result.status == 0, result.err
    assert set(contents(tmp_path / "build")) == {"mlp.fake", "mlp.fake.json"}
    assert "fc     Dense  3      Q2.3  Q2.3    UQ2.3     10/32  exact     12        20" in result.out
    assert "format Q2.3: 5 bits, step 0.125, range [-2, 1.875]" in result.out
    assert result.out.split()[:4] == ["to", "the", "modelled", "layer"]
    assert f"wrote 2 files into {tmp_path / 'build'} in " in result.out
    assert result.out.endswith(" s\n  mlp.fake\n  mlp.fake.json\n")
    assert not result.err


def test_options_may_come_first_and_the_command_may_be_named(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    first = pefslc("--target", "fake", "-o", tmp_path / "a", model)
    named = pefslc("compile", model, "--target", "fake", "-o", tmp_path / "b")
    assert (first.status, named.status) == (0, 0)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_same_input_gives_the_same_bytes(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert pefslc(model, "--target", "fake", "-o", tmp_path / folder, "-q").status == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_quiet_prints_nothing(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "-q")
    assert (result.status, result.out, result.err) == (0, "", "")


def test_the_sidecar_describes_layers_inputs_and_outputs(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    pefslc(model, "--target", "fake", "-o", tmp_path / "a", "-q")
    sidecar = json.loads((tmp_path / "a" / "mlp.fake.json").read_text())
    assert sidecar["inputs"][0]["name"] == "x"
    assert sidecar["outputs"][0]["scale"] == ["1/8"]
    assert sidecar["layers"] == [
        {
            "layer": "fc", "op": "Dense", "shape": [1, 3], "input": "Q2.3", "weight": "Q2.3", "output": "UQ2.3",
            "accumulator_bits": 10, "available_bits": 32, "exact": True, "macs": 12, "cycles": 20,
            "implementation": "interpreted",
        }
    ]  # fmt: skip


def test_a_contradicted_format_is_refused_with_every_quantizer(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    result = pefslc(model, "--target", "fake", "--fmt", "Q3.4", "-o", tmp_path / "build")
    assert result.status == 1
    assert not (tmp_path / "build").exists()
    assert result.err.count("error[PEF0502]:") == 3
    assert result.err.startswith(
        "error[PEF0502]: --fmt says Q3.4: 7 bits, step 0.0625, range [-4, 3.9375]; this weight quantizer is "
        "Q2.3: 5 bits, step 0.125, range [-2, 1.875]\n"
        "  at:   "
    )
    assert "  at:   /inp/act_quant/Quant (Quant), tensor 'xq', shape [1, 4]\n" in result.err
    assert "or --requantize changes them, and says what that does\n" in result.err.splitlines(keepends=True)[-1]


def test_an_unsigned_activation_agrees_with_a_signed_format(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    assert pefslc(model, "--target", "fake", "--fmt", "UQ2.3", "-o", tmp_path / "a").status == 0


def test_a_format_fills_an_open_input(pefslc: Cli, open_model: Path, tmp_path: Path) -> None:
    refused = pefslc(open_model, "--target", "fake", "-o", tmp_path / "a")
    assert refused.status == 1
    assert "input 'x' has no quantizer" in refused.err
    filled = pefslc(open_model, "--target", "fake", "--fmt", "Q2.3", "-o", tmp_path / "a")
    assert filled.status == 0, filled.err
    assert json.loads((tmp_path / "a" / "open.fake.json").read_text())["inputs"][0]["bits"] == 5


@pytest.fixture
def float_model(tmp_path: Path) -> Path:
    """float.onnx: the small network without its quantizers."""
    model = quantized_mlp()
    kept = [n for n in model.graph.node if n.op_type != "Quant"]
    kept[0].input[:] = ["x", "w"]
    kept[-1].output[0] = "y"
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, str(tmp_path / "float.onnx"))
    return tmp_path / "float.onnx"


def test_a_float_model_is_refused_until_a_format_is_named(pefslc: Cli, float_model: Path, tmp_path: Path) -> None:
    refused = pefslc(float_model, "--target", "fake", "-o", tmp_path / "a")
    assert refused.status == 1
    assert ": the model is not quantized: its weights and activations are floats" in refused.err
    assert "--fmt Q3.4 quantizes it after training" in refused.err
    unsigned = pefslc(float_model, "--target", "fake", "--fmt", "UQ2.3", "-o", tmp_path / "a")
    assert unsigned.status == 1
    assert "name a signed format" in unsigned.err
    named = pefslc(float_model, "--target", "fake", "--fmt", "Q2.3", "-o", tmp_path / "a")
    assert named.status == 0, named.err
    assert "fc Dense 3 Q2.3 Q2.3 UQ2.3" in " ".join(named.out.split())  # a ReLU follows
    says = "every layer computes exactly what Q2.3 says; against the float model: not measured, --verify does\n"
    assert says in named.out


def test_an_unproven_accumulator_is_an_error_unless_allowed(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    arguments = (model, "--target", "fake", "--arch", "narrow", "-o", tmp_path / "a")
    refused = pefslc(*arguments)
    assert refused.status == 1
    assert (
        "error[PEF0504]: the accumulator needs 10 bits, the fake accumulator has 8\n  at:   /fc/Gemm (Gemm)"
        in refused.err
    )
    assert "--allow-overflow" in refused.err
    allowed = pefslc(*arguments, "--allow-overflow")
    assert allowed.status == 0
    assert "warning: fc may overflow: 10 bits, 8 there" in allowed.out


def test_verification_counts_equal_outputs(pefslc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--verify", inputs)
    assert result.status == 0, result.err
    assert "8 inputs: 24 of 24 outputs equal: interpreter and float64 evaluation ('y')\n" in result.out
    assert "8 inputs: 24 of 24 outputs equal: fake and interpreter ('y')\n" in result.out
    assert "8 inputs: 24 of 24 outputs equal: fake and 'y_ref64' ('y')\n" in result.out


def test_a_difference_is_named_and_nothing_is_written(pefslc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    result = pefslc(model, "--target", "fake", "--arch", "wrong", "-o", tmp_path / "a", "--verify", inputs)
    assert result.status == 1
    assert "output 'y': 1 of 24 differ: fake and interpreter; first at [7, 2]: code" in result.err
    assert "off by 2" in result.err
    assert not (tmp_path / "a").exists()


def test_a_wrong_reference_is_a_difference(pefslc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(inputs))
    arrays["y_ref64"][3, 1] += 0.125
    np.savez(tmp_path / "wrong.npz", **arrays)
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "wrong.npz")
    assert result.status == 1
    assert "output 'y': 1 of 24 differ: fake and 'y_ref64'; first at [3, 1]:" in result.err
    assert "off by 0.125" in result.err


def test_a_misnamed_reference_is_told(pefslc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(inputs))
    note = "not compared: 'expected'; expected outputs are named like the output, or 'y_ref64'\n"
    np.savez(tmp_path / "both.npz", expected=arrays["y_ref64"], **arrays)
    np.savez(tmp_path / "misnamed.npz", expected=arrays["y_ref64"], x=arrays["x"])
    for name, told in {"both": False, "misnamed": True}.items():
        result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / f"{name}.npz")
        assert (result.status, note in result.out) == (0, told)


def test_a_failing_target_leaves_the_folder_as_it_was(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    pefslc(model, "--target", "fake", "-o", folder)
    before = contents(folder)
    result = pefslc(model, "--target", "fake", "--arch", "fails", "-o", folder)
    assert result.status == 1
    assert (
        "error[PEF0603]: the fake target refuses\n"
        "  at:   /fc/Gemm (Gemm), tensor 'acc', shape [1, 3]\n  help: take another" in result.err
    )
    assert contents(folder) == before


def test_a_fault_of_ours_says_what_to_report(
    pefslc: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(CTarget, "lower", fail)
    result = pefslc(model, "--target", "c", "-o", tmp_path / "a")
    assert result.status == 70
    assert result.err.startswith("fault in pefslc: ZeroDivisionError: division by zero\n")
    assert "mlp.onnx: sha256 " in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "a").exists()
    with pytest.raises(ZeroDivisionError):
        pefslc(model, "--target", "c", "--debug")


def test_the_graph_is_printed_after_a_pass(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--print-ir-after", "lower-to-integer")
    assert result.status == 0
    assert result.out.count("// after ") == 1
    assert "// after lower-to-integer: changed\n" in result.out
    everything = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--print-ir-after", "all")
    assert everything.out.startswith("// after import: changed\n")
    unknown = pefslc(model, "--target", "fake", "--print-ir-after", "nonsense")
    assert unknown.status == 2
    assert "no pass or stage 'nonsense'; those that run: all, import, fold-constants," in unknown.err


def test_every_pass_can_be_checked(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    assert pefslc(model, "--target", "fake", "--check-passes", "-o", tmp_path / "a").status == 0


def test_check_writes_nothing(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    result = pefslc("check", model, "--target", "fake")
    assert (result.status, result.out) == (
        0,
        "mlp compiles for fake: every layer computes exactly what the file says\n",
    )
    assert set(tmp_path.iterdir()) == before
    assert pefslc("check", model, "--target", "fake", "--arch", "fails").status == 1
