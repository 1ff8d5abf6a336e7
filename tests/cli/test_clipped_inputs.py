"""Inputs beyond the range of their quantizer are said with their share wherever inputs are taken."""

from __future__ import annotations

import json
import warnings
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cli_support import Cli

import pefslc
from pefslc.diagnostics.errors import Origin
from pefslc.ir.interface import GraphInput
from pefslc.ir.value import CodeRange, TensorType, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine
from pefslc.reports.clipped_inputs import InputsClipWarning, clipped_inputs

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
CNN, DATA = EXAMPLES / "cnn_bnfold_q2_3.onnx", EXAMPLES / "cnn_bnfold_q2_3.npz"


def an_input(q: Quantization, stages: tuple[Affine, ...] = ()) -> GraphInput:
    element = CodeRange(low=q.low, high=q.high, scale=q.scale, zero_point=q.zero_point)
    value = Value("x", TensorType((1, 1), element), Origin("", "input"))
    return GraphInput("x", value, Quantizer(q, RoundingMode.HALF_EVEN), stages)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("halved", [False, True], ids=["plain", "behind a factor"])
def test_what_clips_is_what_rounds_to_no_code(signed: bool, narrow: bool, bits: int, halved: bool) -> None:
    """Python rounds fractions half to even, without bounds."""
    for zero_point in (0, 1) if not narrow else (0,):
        scale = Scale.of([Fraction(3, 4)])
        q = Quantization(bits=bits, signed=signed, narrow=narrow, scale=scale, zero_point=zero_point)
        stages = (Affine((Fraction(1, 2),), (Fraction(0),), (Fraction(1),), (Fraction(0),)),) if halved else ()
        for numerator in range(-200, 200):
            x = Fraction(numerator, 8)
            code = round(x / (2 if halved else 1) / Fraction(3, 4) + zero_point)
            found = clipped_inputs([an_input(q, stages)], {"x": np.array([[float(x)]])})
            assert bool(found) == (not q.low <= code <= q.high), x
            if found:
                assert (found[0].share, found[0].low, found[0].high) == (1, x, x)
                assert found[0].held == (None if halved else (q.value(q.low), q.value(q.high)))


def test_the_share_is_of_all_values() -> None:
    q = Quantization(bits=5, signed=True, narrow=False, scale=Scale.power_of_two(-3), zero_point=0)
    (found,) = clipped_inputs([an_input(q)], {"x": np.array([[-3.0, 0, 1, 1.875, 1.9, 2, 0, 0]])})
    assert found.share == 2 / 8  # 1.9 rounds to 1.875
    assert str(found) == "input 'x': 25 % of its values clip: they reach -3 to 2, Q2.3 holds -2 to 1.875"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """0 to 255, for a model that wants [-2, 1.875]."""
    path = tmp_path / "pictures.npz"
    np.savez(path, x=(np.arange(256) % 256).reshape(1, 1, 16, 16).astype(np.float32))
    return path


TOLD = "input 'input': 99 % of its values clip: they reach 0 to 255, Q2.3 holds -2 to 1.875"


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_verify_and_run_say_it(pefslc: Cli, pictures: Path, tmp_path: Path, target: str) -> None:
    compiled = pefslc(CNN, "--target", target, "-o", tmp_path, "--verify", pictures)
    assert f"1 inputs: {TOLD}\n" in compiled.out
    assert f"warning: {TOLD}\n  help: " in compiled.err
    (sidecar,) = tmp_path.glob("*.json")
    ran = pefslc("run", sidecar, "--inputs", pictures)
    assert (ran.status, ran.err.splitlines()[0]) == (0, f"warning: {TOLD}")
    assert pefslc("run", sidecar, "--inputs", pictures, "-q").err == ""
    (clipped,) = json.loads(pefslc("run", sidecar, "--inputs", pictures, "--json").out)["clipped_inputs"]
    assert clipped == {
        "input": "input", "clipped": 0.992188, "range": [0, 255], "format": "Q2.3", "held": [-2, 1.875]
    }  # fmt: skip
    assert pefslc("run", sidecar, "--inputs", DATA).err == ""


def test_a_few_values_are_a_note(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    assert pefslc(model, "--target", "c", "-o", tmp_path / "out").status == 0
    x = np.zeros((5, 4))
    x[0, 0] = 9
    np.savez(tmp_path / "x.npz", x=x)
    ran = pefslc("run", tmp_path / "out", "--inputs", tmp_path / "x.npz")
    assert ran.err == "note: input 'x': 5 % of its values clip: they reach 0 to 9, Q2.3 holds -2 to 1.875\n"


def test_what_a_format_of_the_user_s_does_not_hold_is_said_once(pefslc: Cli, open_model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.full((2, 4), 9.0))
    result = pefslc(
        open_model, "--target", "c", "-o", tmp_path / "out", "--fmt", "Q2.3", "--verify", tmp_path / "x.npz"
    )
    assert result.out.count("100 % of its values") == 1
    assert result.err.count("warning") == 1


def test_python_warns(pictures: Path) -> None:
    program = pefslc.compile(CNN, target="tensil")
    with pytest.warns(InputsClipWarning, match=r"99 % of its values clip") as caught:
        program.run(np.load(pictures)["x"])
    assert caught[0].filename == __file__
    (clipped,) = program.verify(pictures).clipped_inputs
    assert str(clipped) == TOLD
    program.run(np.load(DATA)["x"])  # a warning would be an error here


def test_to_driver_warns_once_and_hands_over_the_same(pictures: Path) -> None:
    program = pefslc.compile(CNN, target="tensil")
    source = program.emission.files["cnn_bnfold_q2_3_io.py"].decode()
    io = ModuleType("io_of_the_board")
    exec(compile(source, "cnn_bnfold_q2_3_io.py", "exec"), io.__dict__)
    x = np.load(pictures)["x"]
    with pytest.warns(UserWarning, match=r"input 'input': 99.2 % of its values clip: they reach 0 to 255") as caught:
        words = io.to_driver(x)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = io.to_driver(x)
    clipped = io.to_driver(np.clip(x, -2, 1.875))
    assert np.array_equal(words["input"], again["input"])
    assert np.array_equal(words["input"], clipped["input"])
