"""What bash, zsh and fish are told, asked as their scripts ask; and `pefslc help`, which reflows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import Cli

from pefslc.console.completion import answer_shell
from pefslc.console.group import commands

Completed = Callable[..., list[str]]


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Completed:
    """What the shell is answered for the last of the words."""

    def complete(*words: str, shell: str = "bash") -> list[str]:
        monkeypatch.setenv("COMP_WORDS", " ".join(("pefslc", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)) if shell != "fish" else words[-1])
        monkeypatch.setenv("_PEFSLC_COMPLETE", f"{shell}_complete")
        assert answer_shell(commands) == 0
        captured = capfd.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ins",), ["plain,inspect"]),
        (("fewshot", "en"), ["plain,enrol"]),
        (("m.onnx", "--target", "t"), ["plain,tensil"]),
        (("check", "m.onnx", "--target", "c"), ["plain,c"]),
        (("targets", "ten"), ["plain,tensil"]),
        (("m.onnx", "--arc"), ["plain,--arch"]),
        (("m.onnx", "--calibration", "p"), ["plain,percentile"]),
        (("explain", "PEF010"), [f"plain,PEF010{i}" for i in range(1, 9)]),
        (("explain", "pef0504"), ["plain,PEF0504"]),
        (("completion", "z"), ["plain,zsh"]),
        (("help", "comp"), ["plain,compile", "plain,completion"]),
        (("help", "fewshot", "en"), ["plain,enrol"]),
        (("help", "opt", "x"), [""]),
        (("m.onnx", "--target", "tensil", "--arch", "zcu"), ["plain,zcu104", "plain,zcu104_uram"]),
        (("m.onnx", "--target", "tensil", "--arch", "./my"), ["file,./my"]),
        (("m.onnx", "--target", "c", "--weights", "b"), ["plain,binary"]),
        (("opt", "x.ir", "--pass", "merge-s"), ["plain,merge-stages"]),
        (("opt", "x.ir", "--pass", "check-format"), ["plain,check-format", "plain,check-formats"]),
        (("opt", "x.ir", "--pass", "mine."), ["file,mine."]),
        (("opt", "x.ir", "--target", "t"), ["plain,tensil"]),
        (("formats", "m.onnx", "--target", "t"), ["plain,tensil"]),
        (("forma",), ["plain,formats"]),
    ],
)
def test_commands_options_targets_and_codes_are_completed(
    completed: Completed, words: tuple[str, ...], expected: list[str]
) -> None:
    assert completed(*words) == expected


@pytest.mark.parametrize(
    "words",
    [("mod",), ("inspect", "mod"), ("run", "buil"), ("run", "b/", "--inputs", "x"), ("m.onnx", "--verify", "x")],
)
def test_files_are_left_to_the_shell(completed: Completed, words: tuple[str, ...]) -> None:
    assert completed(*words) == [f"file,{words[-1]}"]


def test_a_fault_says_nothing_into_the_prompt(
    completed: Completed, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    completed("ins")  # as the shell asks
    monkeypatch.delenv("COMP_CWORD")
    assert answer_shell(commands) == 1
    assert capfd.readouterr() == ("", "")
    monkeypatch.delenv("_PEFSLC_COMPLETE")
    assert answer_shell(commands) is None


def test_zsh_and_fish_are_answered_in_their_notation(completed: Completed) -> None:
    (fish,) = completed("ins", shell="fish")
    assert fish.startswith("plain,inspect\tlayers, formats")
    zsh = completed("ins", shell="zsh")
    assert zsh[:2] == ["plain", "inspect"]
    assert zsh[2].startswith("layers, formats")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_reads(pefslc: Cli, tmp_path: Path, shell: str) -> None:
    result = pefslc("completion", shell)
    assert result.status == 0
    assert f"_PEFSLC_COMPLETE={shell}_complete" in result.out
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here")
    script = tmp_path / "script"
    script.write_text(result.out)
    subprocess.run([found, "-n", str(script)], check=True)


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    (tmp_path / "pefslc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pefslc "$@"\n')
    (tmp_path / "pefslc").chmod(0o755)
    script = """
        eval "$(pefslc completion bash)"
        COMP_WORDS=(pefslc m.onnx --tar); COMP_CWORD=2
        _pefslc_completion pefslc; echo "${COMPREPLY[@]}"
        """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        [bash, "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "--target\n"


def test_help_of_a_command_is_that_of_its_option(pefslc: Cli) -> None:
    assert pefslc("help").out == pefslc("--help").out
    assert pefslc("help", "check").out == pefslc("check", "--help").out
    assert pefslc("help", "fewshot", "build").out == pefslc("fewshot", "build", "--help").out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["inspct"], "no command 'inspct'\n  help: did you mean 'inspect'?"),
        (["fewshot", "buid"], "no command 'buid'\n  help: did you mean 'build'?"),
        (["check", "more"], "no command 'more'\n  help: pefslc check --help"),
    ],
)
def test_help_of_no_command_says_what_may_be_meant(pefslc: Cli, words: list[str], text: str) -> None:
    result = pefslc("help", *words)
    assert (result.status, result.err) == (2, f"error: {text}\n")


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_help_fits_the_terminal(pefslc: Cli, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size((columns, 40)))
    piped = pefslc("--help").out
    assert max(map(len, piped.splitlines())) <= 100
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for command in ((), ("check",), ("fewshot", "sweep")):
        printed = pefslc(*command, "--help").out
        flowing = [line for line in printed.splitlines() if "pefslc " not in line and "--" not in line]
        assert max(map(len, flowing)) <= min(columns, 100)
        assert columns < 100 or command or printed == piped
