"""--requantize: a quantized model in another format, and what that changed."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import Cli
from onnx import numpy_helper

import pefslc
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import Origin, Problem
from pefslc.ir.quantized import Quantize
from pefslc.numeric.format import FixedPoint, saturate
from pefslc.numeric.rounding import round_fraction
from pefslc.passes.change_formats import ChangeFormats

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL, DATA = EXAMPLES / "cnn_bnfold_q2_3.onnx", EXAMPLES / "cnn_bnfold_q2_3.npz"


def test_a_contradicted_format_is_refused_with_a_list_by_format(pefslc: Cli, tmp_path: Path) -> None:
    result = pefslc(MODEL, "--target", "c", "--fmt", "Q3.4", "-o", tmp_path)
    assert result.status == 1
    assert result.err == (
        "error[PEF0502]: --fmt says Q3.4: 7 bits, step 0.0625, range [-4, 3.9375]; this weight quantizer is "
        "Q2.3: 5 bits, step 0.125, range [-2, 1.875]\n"
        "  at:   /b1/conv/weight_quant/export_handler/Quant (Quant)\n"
        "        /b2/conv/weight_quant/export_handler/Quant (Quant)\n"
        "        /fc/weight_quant/export_handler/Quant (Quant)\n"
        "error[PEF0502]: --fmt says Q3.4: 7 bits, step 0.0625, range [-4, 3.9375]; this activation quantizer is "
        "Q2.3: 5 bits, step 0.125, range [-2, 1.875]\n"
        "  at:   /inp/act_quant/export_handler/Quant (Quant), tensor '/inp/act_quant/export_handler/Quant_output_0', "
        "shape [1, 1, 16, 16]\n"
        "error[PEF0502]: --fmt says Q3.4: 7 bits, step 0.0625, range [-4, 3.9375]; this activation quantizer is "
        "UQ2.3: 5 bits, step 0.125, range [0, 3.875]\n"
        "  at:   /b1/act/act_quant/export_handler/Quant (Quant)\n"
        "        /b2/act/act_quant/export_handler/Quant (Quant)\n"
        "  help: train in Q3.4, or leave out --fmt: the model's own formats are then taken; or --requantize changes "
        "them, and says what that does\n"
    )


def test_weights_are_rounded_again_from_the_floats_of_the_file() -> None:
    """Every count from the file's own floats, in exact rationals."""
    program = pefslc.compile(MODEL, target="c", fmt="Q1.2", requantize=True, verify=DATA)
    floats = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(MODEL)).graph.initializer}
    changes = {c.name: c for c in program.format_changes}
    weights = [f"{layer}/weight_quant" for layer in ("b1/conv", "b2/conv", "fc")]
    assert list(changes) == ["inp", *weights, "b1/act", "b2/act"]
    for layer in ("b1.conv", "b2.conv", "fc"):
        values = [Fraction(float(v)) for v in floats[f"{layer}.weight"].reshape(-1)]
        old = [Fraction(saturate(round_fraction(v * 8), -16, 15), 8) for v in values]
        new = [round_fraction(v * 4) for v in values]
        clipped = [Fraction(saturate(code, -4, 3), 4) for code in new]
        change = changes[f"{layer.replace('.', '/')}/weight_quant"]
        assert (change.before, change.after, change.role) == ("Q2.3", "Q1.2", "weight")
        assert change.count == len(values)
        assert change.changed == sum(a != b for a, b in zip(old, clipped, strict=True))
        assert change.clipped == sum(not -4 <= code <= 3 for code in new)
    assert (changes["b1/act"].before, changes["b1/act"].after) == ("UQ2.3", "UQ1.2")
    assert changes["b1/act"].count == 0


def test_with_data_the_codes_of_activations_are_counted_too(pefslc: Cli, tmp_path: Path) -> None:
    arguments = ("--target", "c", "--fmt", "Q2.2", "--requantize", "--calibrate", DATA, "-o", tmp_path)
    result = pefslc(MODEL, *arguments)
    assert result.status == 0, result.err
    with np.load(DATA) as data:
        x = data["x"].astype(np.float64)
    before, after = (np.clip(np.rint(x * n), -2 * n, 2 * n - 1) / n for n in (8, 4))
    changes = json.loads((tmp_path / "cnn_bnfold_q2_3.c.json").read_text())["details"]["format_changes"]
    assert changes[0] == {
        "quantizer": "inp", "role": "activation", "before": "Q2.3", "after": "Q2.2", "values": x.size,
        "changed": int((before != after).sum()), "clipped": int((np.rint(before * 4) > 7).sum()),
    }  # fmt: skip
    assert "requantized: 3 weight and 3 activation quantizers; " in result.out
    assert "inp" in result.out.splitlines()[2]


def test_a_model_that_agrees_is_left_as_it_is() -> None:
    program = pefslc.compile(MODEL, target="c", fmt="Q2.3", requantize=True, verify=DATA)
    assert program.format_changes == ()
    graph = pefslc.load(MODEL)
    assert ChangeFormats(FixedPoint(2, 3)).run(graph) is graph


@pytest.mark.parametrize("name", ["cnn_q2_3_qcdq", "cnn_w8pc_a8_float", "shufflenet_q3_5", "concat_q3_4"])
def test_codes_scales_per_channel_and_what_moves_codes_change_too(name: str) -> None:
    path = EXAMPLES.parent.parent / "shared" / "zoo" / f"{name}.onnx"
    if not path.exists():
        pytest.skip("optional reference data (../shared) is not there")
    program = pefslc.compile(path, target="c", fmt="Q3.6", requantize=True)
    graph = program.lowered.reference
    formats = {str(op.result.type.element) for op in graph.of_type(Quantize) if op.channel_axis == 1}
    assert {f.removeprefix("U") for f in formats} == {"Q3.6"}
    assert program.verify(
        {"x": np.random.default_rng(0).normal(0, 1, (2, *graph.inputs[0].value.type.shape[1:]))}
    ).equal


@pytest.mark.parametrize("fmt", [None, "auto:8"])
def test_requantize_needs_a_format_with_a_name(fmt: str | None) -> None:
    with pytest.raises(pefslc.CompileError, match="changes a quantized model to a format, and none is named"):
        pefslc.compile(MODEL, target="c", fmt=fmt, requantize=True, calibrate=DATA)


def test_one_bit_is_no_format_to_change_to() -> None:
    with pytest.raises(pefslc.CompileError, match=r"cannot be requantized to UQ1\.0"):
        pefslc.compile(MODEL, target="c", fmt="UQ1.0", requantize=True)


def test_a_list_of_places_cannot_forge_lines() -> None:
    """Names come from the file; so does an operator's type."""
    evil = "Quant\nerror[PEF0101]: forged"
    problems = [Problem(Code.BIT_WIDTH, "same", at=Origin("a\nb", evil)), Problem(Code.BIT_WIDTH, "same", at="c\nd")]
    assert str(pefslc.CompileError.of(problems)).splitlines() == [
        "error[PEF0302]: same",
        "  at:   a?b (Quant?error[PEF0101]: forged)",
        "        c?d",
    ]
