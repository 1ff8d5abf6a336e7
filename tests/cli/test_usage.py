"""Mistakes on the command line: exit status 2, one message, no traceback; and help that costs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
HELP_START = """\
Usage: pefslc MODEL.onnx --target TARGET [OPTIONS]
       pefslc COMMAND ...
"""


def test_help_explains_formats_commands_and_statuses(pefslc: Cli) -> None:
    result = pefslc("--help")
    assert result.status == 0
    assert result.out.startswith(HELP_START)
    assert "Q2.3 has 5 bits, step 0.125, range [-2, 1.875]; UQ2.3 has 5 bits" in result.out
    assert "  layers, formats, accumulator bits needed and available" in result.out
    assert "Exit status: 0 done; 1 refused, differs or unproved; 2 usage; 70 a fault of ours." in result.out
    assert max(map(len, result.out.splitlines())) <= 112


def test_without_arguments_the_help_is_shown_as_an_error(pefslc: Cli) -> None:
    result = pefslc()
    assert result.status == 2
    assert result.err.startswith(HELP_START)


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom pefslc.console import cli\nassert cli.run(['--help']) == 0\n"
        "heavy = {'numpy', 'onnx', 'onnx_graphsurgeon', 'rich', 'jinja2', 'networkx', 'pefslc.driver.compiler'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", ["inspect", "check", "run", "disassemble", "passes", "targets", "compile"])
def test_every_command_has_help(pefslc: Cli, command: str) -> None:
    result = pefslc(command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: pefslc {command}")


def test_version(pefslc: Cli) -> None:
    import pefslc as package

    assert pefslc("--version").out == f"pefslc {package.__version__}\n"


def test_python_m_pefslc_is_the_same() -> None:
    ended = subprocess.run([sys.executable, "-m", "pefslc", "--version"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout[:7]) == (0, "pefslc ")


def test_a_model_that_is_not_there(pefslc: Cli) -> None:
    result = pefslc("missing.onnx", "--target", "fake")
    assert result.status == 2
    assert result.err == "error: no such file: 'missing.onnx'\n  help: pefslc compile --help\n"


def test_a_misspelt_model_is_recognized(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    wrong = model.with_name(f"{model.stem[:-1]}.onnx")
    for command in (
        (wrong, "--target", "fake"),
        ("inspect", wrong),
        ("disassemble", wrong),
        ("run", wrong, "--inputs", model),
    ):
        result = pefslc(*command)
        assert result.status == 2
        assert result.err == f"error: no such file: '{wrong}'\n  help: did you mean '{model}'?\n"
    nowhere = pefslc("inspect", tmp_path / "no" / "model.onnx")
    assert nowhere.err.endswith("model.onnx'\n  help: pefslc inspect --help\n")


def test_a_misspelt_command_is_recognized(pefslc: Cli, model: Path) -> None:
    result = pefslc("inspct", "--target", "fake")
    assert result.status == 2
    assert "error: no such file: 'inspct' (did you mean the command 'inspect'?)" in result.err
    assert pefslc("inspct", model).status == 2


def test_a_known_command_wins_over_a_file_of_its_name(
    pefslc: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("passes").write_text("")
    assert "fold-constants" in pefslc("passes").out


def test_a_folder_instead_of_a_model(pefslc: Cli, tmp_path: Path) -> None:
    result = pefslc(tmp_path, "--target", "fake")
    assert result.status == 2
    assert f"'{tmp_path}' is a folder, not a model" in result.err


def test_a_device_or_a_link_to_nothing_instead_of_a_model(pefslc: Cli, tmp_path: Path) -> None:
    device = pefslc(os.devnull, "--target", "fake")
    assert device.status == 2
    assert f"'{os.devnull}' is a device or a pipe, not a model: give a file" in device.err
    link = tmp_path / "model.onnx"
    link.symlink_to(tmp_path / "gone.onnx")
    broken = pefslc(link, "--target", "fake")
    assert broken.status == 2
    assert f"no such file: '{link}'" in broken.err
    assert "did you mean" not in broken.err


def test_a_file_that_is_no_model(pefslc: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("not a model at all")
    result = pefslc(tmp_path / "x.onnx", "--target", "fake")
    assert result.status == 1
    assert "is not an ONNX file" in result.err


def test_arrays_given_as_the_model_are_told_where_they_go(pefslc: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    result = pefslc(tmp_path / "x.npz", "--target", "fake")
    assert result.status == 1
    assert "holds arrays by its name, not an ONNX file\n  help: give the .onnx file here, and arrays to" in result.err


@pytest.mark.parametrize("text", ["2.3", "Q2", "Q2,3", "q2.3", "Q40.40", "float", ""])
def test_a_wrong_format_says_what_one_looks_like(pefslc: Cli, model: Path, text: str) -> None:
    result = pefslc(model, "--target", "fake", "--fmt", text)
    assert result.status == 2
    assert result.err.startswith("error: --fmt: ")
    assert "for example Q2.3: 5 bits, step 0.125, range [-2, 1.875]" in result.err


def test_an_unknown_target(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "fpga")
    assert result.status == 2
    assert result.err == "error[PEF0901]: unknown target 'fpga'\n  help: known: c, tensil, fake; or FILE.py:Class\n"


def test_no_target(pefslc: Cli, model: Path) -> None:
    result = pefslc(model)
    assert result.status == 2
    assert result.err == "error: --target is missing\n  help: --target NAME; pefslc compile --help\n"


def test_an_unknown_architecture(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "fake", "--arch", "pynq2")
    assert result.status == 2
    assert "error[PEF0601]: unknown architecture 'pynq2'\n  help: known: narrow" in result.err


@pytest.mark.parametrize("target", ["fake", "tensil", "c"])
def test_an_empty_architecture(pefslc: Cli, model: Path, target: str) -> None:
    result = pefslc(model, "--target", target, "--arch", "")
    assert result.status == 2
    assert result.err.startswith("error[PEF0902]: ")
    assert "(--arch) is " in result.err


def test_an_unknown_option(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "fake", "--format", "Q2.3")
    assert result.status == 2
    assert "error: no option '--format'\n  help: did you mean '--formats'?" in result.err


def test_inputs_that_are_not_there(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "fake", "--verify", "nothing.npz")
    assert result.status == 2
    assert "no such file: 'nothing.npz'" in result.err


def test_an_interrupt_is_not_a_crash(pefslc: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pefslc.driver.compiler.survey_model", interrupted)
    result = pefslc(model, "--target", "fake")
    assert (result.status, result.err) == (130, "interrupted: what was being written is there whole, or not at all\n")


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m pefslc passes | head -1"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("pynq-z1", "did you mean --target tensil --arch pynqz1? "),
        ("ZCU104", "did you mean --target tensil --arch zcu104? "),
        ("Tensil", "did you mean tensil? "),
        ("tensill", "did you mean tensil? "),
        ("fpga", ""),
    ],
)
def test_a_board_or_a_misspelt_name_given_as_target_is_understood(pefslc: Cli, target: str, meant: str) -> None:
    result = pefslc("check", EXAMPLE, "--target", target)
    assert result.status == 2
    assert f"  help: {meant}known: c, tensil, fake" in result.err
    advice = meant.removeprefix("did you mean ").rstrip("? ").split()
    if advice:
        assert pefslc("check", EXAMPLE, *(advice if len(advice) > 1 else ["--target", *advice])).status == 0


def test_a_misspelt_architecture_is_understood(pefslc: Cli) -> None:
    result = pefslc("check", EXAMPLE, "--target", "tensil", "--arch", "PYNQ-Z1")
    assert (result.status, "did you mean pynqz1? one of cmoda7" in result.err) == (2, True)


def test_the_text_of_a_graph_is_no_model_and_the_help_says_what_to_do_with_it(pefslc: Cli, tmp_path: Path) -> None:
    text = tmp_path / "x.ir"
    assert pefslc("opt", EXAMPLE, "-o", text).status == 0
    for arguments in ((text, "--target", "c"), ("inspect", text)):
        refused = pefslc(*arguments)
        assert refused.status == 1
        assert "`pefslc opt` runs passes on it" in refused.err


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("opt", "deploy"), "no command 'deploy'\n  help: pefslc help deploy"),
        (("opt", "x"), "no command 'x'\n  help: pefslc opt --help"),
        (("fewshot", "enrl"), "no command 'enrl'\n  help: did you mean 'enrol'?"),
    ],
)
def test_help_of_what_is_no_command_says_what_may_be_meant(pefslc: Cli, names: tuple[str, ...], message: str) -> None:
    result = pefslc("help", *names)
    assert (result.status, result.err) == (2, f"error: {message}\n")


@pytest.mark.parametrize("name", ["mac.py", "mac.py:MacTarget"])
def test_run_of_a_target_asks_for_what_was_compiled(pefslc: Cli, name: str, inputs: Path) -> None:
    result = pefslc("run", name, "--inputs", inputs)
    assert result.status == 2
    assert f"  help: pefslc run BUILD --target {name} --inputs X.npz\n" in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--target is missing\n  help: --target NAME; pefslc compile --help"),
        (("--target",), "--target needs a value\n  help: --target NAME; pefslc compile --help"),
        (
            ("--target", "c", "--batch", "0"),
            "--batch is '0', not a whole number of 1 or more\n  help: pefslc compile --help",
        ),
        (("--target", "c", "--batch", "1.5"), "--batch is '1.5', not a whole number of 1 or more\n"),
        (("--target", "c", "--data-limit", "0"), "--data-limit is '0.0', not a number above 0\n"),
        (("--target", "c", "--max-error", "x"), "--max-error is 'x', not a number\n"),
        (("--target", "c", "--calibration", "x"), "--calibration is 'x', not mse, percentile or minmax\n"),
        (("--target", "c", "--quiet=1"), "--quiet is a switch, and takes no value\n  help: pefslc compile --help"),
        (
            ("--target", "c", "--bacth", "2"),
            "no option '--bacth'\n  help: did you mean '--batch'?; pefslc compile --help",
        ),
        (("--target", "c", "extra"), "nothing takes 'extra'\n  help: pefslc compile --help"),
    ],
)
def test_mistakes_that_click_finds_are_told_as_ours(
    pefslc: Cli, model: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = pefslc(model, *arguments)
    assert result.status == 2
    assert result.err.startswith(f"error: {said}")


def test_missing_arguments_are_named_as_the_help_names_them(pefslc: Cli) -> None:
    assert pefslc("inspect").err == "error: MODEL is missing\n  help: pefslc inspect --help\n"
    assert pefslc("completion").err.endswith("is missing\n  help: bash, zsh or fish; pefslc completion --help\n")
    assert pefslc("view", "m.onnx", "--port", "x").err.startswith(
        "error: --port is 'x', not a whole number from 0 to 65535\n"
    )
    assert pefslc("fewshot", "evaluate").err.startswith("error: NETWORK is missing\n")


def test_an_architecture_file_that_is_not_there(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "tensil", "--arch", "nofile.tarch")
    assert result.status == 2
    assert "no such file: 'nofile.tarch'\n  help: " in result.err
