"""A target of a Python file: --target FILE.py:Class."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_support import Cli

import pefslc as api

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = re.search(
    r"```python file=text_target.py\n(.*?)```", (ROOT / "docs/adding-a-target.md").read_text(), re.DOTALL
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    assert SOURCE is not None
    path = tmp_path / "mine.py"
    path.write_text(SOURCE[1])
    return path


def test_it_compiles_with_its_options_and_runs(
    pefslc: Cli, model: Path, inputs: Path, file: Path, tmp_path: Path
) -> None:
    target, out = f"{file}:TextTarget", tmp_path / "out"
    result = pefslc(model, "--target", target, "--dsp-bits", 30, "-o", out, "--verify", inputs)
    assert result.status == 0, result.err
    assert (out / "mlp.text.json").is_file()
    assert pefslc(model, f"--target={file}", "--dsp-bits", 3, "-o", out).status == 1
    result = pefslc("run", out, "--inputs", inputs)
    assert result.status == 1
    assert "unknown target 'text'" in result.err
    assert "FILE.py:Class" in result.err
    assert pefslc("run", out, "--inputs", inputs, "--target", target).status == 0
    assert "was compiled for target 'text', not for 'c'" in pefslc("run", out, "--inputs", inputs, "--target", "c").err


def test_it_is_shown_and_inspected_and_checked_with(pefslc: Cli, model: Path, file: Path) -> None:
    shown = pefslc("targets", f"{file}:TextTarget")
    assert shown.out.startswith("text: the graph as text\n")
    assert "--dsp-bits BITS" in shown.out
    for command in ("inspect", "check"):
        assert pefslc(command, model, "--target", f"{file}:TextTarget", "--dsp-bits", 40).status == 0


def test_python_takes_the_same_name(model: Path, file: Path) -> None:
    program = api.compile(model, target=f"{file}:TextTarget", dsp_bits=40)
    assert program.target.name == "text"


def test_a_file_runs_once(pefslc: Cli, model: Path, file: Path, tmp_path: Path) -> None:
    file.write_text(file.read_text() + "\nprint('loaded')\n")
    result = pefslc(model, "--target", f"{file}:TextTarget", "--dsp-bits", 30, "-o", tmp_path / "out")
    assert result.out.count("loaded") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}:Missing", "has no class 'Missing'\n  help: name one: {}:TextTarget"),
        ("{}:TextRunner", "cannot be made: TypeError"),
        ("{}x.py:TextTarget", "no such target file"),
    ],
)
def test_mistakes_are_usage_errors(pefslc: Cli, model: Path, file: Path, name: str, message: str) -> None:
    result = pefslc(model, "--target", name.format(file))
    assert result.status == 2
    assert message.format(file) in result.err
    assert "Traceback" not in result.err


def test_a_class_that_is_no_target_is_told_what_it_lacks(pefslc: Cli, model: Path, file: Path) -> None:
    file.write_text("class Nothing:\n    pass\n")
    assert "is not a target" in pefslc(model, "--target", f"{file}:Nothing").err
    assert "has 0 targets\n  help: a class with name, limits, lower, runner" in pefslc(model, "--target", file).err


def test_a_file_that_fails_names_its_line(pefslc: Cli, model: Path, file: Path) -> None:
    file.write_text("\nraise ValueError('no')\n")
    result = pefslc(model, "--target", f"{file}:X")
    assert f"cannot be imported: ValueError: no\n  at:   {file}:2\n" in result.err


def test_a_sidecar_cannot_name_a_file(pefslc: Cli, model: Path, inputs: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pefslc(model, "--target", f"{file}:TextTarget", "--dsp-bits", 30, "-o", out)
    file.write_text("print('run by a sidecar')\n")
    sidecar = out / "mlp.text.json"
    sidecar.write_text(sidecar.read_text().replace('"text"', f'"{file}:TextTarget"'))
    result = pefslc("run", out, "--inputs", inputs)
    assert result.status == 1
    assert "run by a sidecar" not in result.out
