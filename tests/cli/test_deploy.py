"""`pefslc deploy`: what it copies and runs, with an `ssh` and an `scp` that play a board."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest
from cli_support import Cli

import pefslc as api
from pefslc.driver.deployment import is_host, is_remote_folder, plan_deployment
from pefslc.targets.tensil.machine import architecture

EXAMPLE = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
NAME = EXAMPLE.stem

# The board is a folder. What ssh is given runs in a shell there, as on a board; sudo and python3 are written down.
SSH = """#!/bin/sh
printf '%s\\n' "ssh $*" >> "$BOARD/log"
while [ "$1" != -- ]; do shift; done
[ "$2" = unreachable ] && { echo "ssh: no route to host" >&2; exit 255; }
cd "$BOARD" && exec sh -c "$3"
"""
SCP = """#!/bin/sh
[ "$1" = -- ] && shift
for last; do :; done
to="$BOARD/${last#*:}"
while [ $# -gt 1 ]; do cp -- "$1" "$to" || exit 1; shift; done
"""
SUDO = """#!/bin/sh
printf '%s\\n' "$(basename "$(pwd)")" "$@" > "$BOARD/ran"
exit "${SELF_TEST:-0}"
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that plays the home of a board's user."""
    tools, home = tmp_path / "tools", tmp_path / "home"
    tools.mkdir()
    home.mkdir()
    for name, text in (("ssh", SSH), ("scp", SCP), ("sudo", SUDO)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BOARD", str(home))
    return home


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    api.compile(EXAMPLE, target="tensil").save(folder)
    return folder


@pytest.fixture
def build(compiled: Path, tmp_path: Path) -> Path:
    """A compiled model in a folder whose name a shell, ssh or scp would misread."""
    folder = tmp_path / "-oProxy 'x'; touch $(hacked):b"
    shutil.copytree(compiled, folder)
    return folder


def test_deploy_copies_all_files_and_runs_the_script(pefslc: Cli, build: Path, board: Path) -> None:
    result = pefslc("deploy", build, "xilinx@192.168.2.99", "--runs", 5)
    assert (result.status, result.err) == (0, "")
    copied = {path.name for path in (board / NAME).iterdir()}
    assert copied == {p.name for p in build.iterdir()} - {f"{NAME}.tensil.json"}
    for name in copied:
        assert (board / NAME / name).read_bytes() == (build / name).read_bytes()
    where, variable, python, script, *options = (board / "ran").read_text().splitlines()
    assert (where, variable, script, options) == (NAME, "XILINX_XRT=/usr", f"{NAME}_run.py", ["--runs", "5"])
    assert python == "python3"  # there is no pynq-venv here
    assert not list(board.parent.rglob("hacked*"))


def test_deploy_copies_a_bitstream_with_its_hwh(pefslc: Cli, build: Path, board: Path) -> None:
    bitstream = build / "my design; reboot.bit"
    bitstream.write_text("bit")
    with_none = pefslc("deploy", build, "pynq", "--bitstream", bitstream)
    assert (with_none.status, "PYNQ needs the design's FILE.hwh beside it" in with_none.err) == (2, True)
    bitstream.with_suffix(".hwh").write_text("hwh")
    handoff = pefslc("deploy", build, "--bitstream", bitstream.with_suffix(".hwh"), "--print")
    assert (handoff.status, handoff.out) == (1, "")
    assert "is no .bit file" in handoff.err
    assert pefslc("deploy", build, "pynq", "--bitstream", bitstream, "--folder", "nets/a").status == 0
    assert (board / "nets" / "a" / "my design; reboot.bit").read_text() == "bit"
    assert (board / "nets" / "a" / "my design; reboot.hwh").read_text() == "hwh"
    assert (board / "ran").read_text().splitlines()[-2:] == ["--bitstream", "./my design; reboot.bit"]


@pytest.mark.parametrize("arguments", [[], ["pynq", "--print"]])
def test_deploy_without_a_host_or_with_print_runs_nothing(
    arguments: list[str], pefslc: Cli, build: Path, board: Path
) -> None:
    result = pefslc("deploy", build, *arguments)
    assert result.status == 0
    assert not list(board.iterdir())
    host = arguments[0] if arguments else "xilinx@pynq"
    commands = [tuple(shlex.split(line)) for line in result.out.splitlines()]
    assert commands == list(plan_deployment(build, host).commands)


def test_a_board_that_is_not_reached_ends_the_command(pefslc: Cli, build: Path, board: Path) -> None:
    result = pefslc("deploy", build, "unreachable")
    assert result.status == 1
    assert "error[PEF0814]: ssh ended with status 255" in result.err
    assert not (board / "ran").exists()


def test_a_self_test_that_fails_ends_the_command(
    pefslc: Cli, build: Path, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELF_TEST", "1")
    result = pefslc("deploy", build, "pynq")
    assert (result.status, "what ran on the board ended with status 1" in result.err) == (1, True)
    assert (board / "ran").exists()


def test_a_machine_without_ssh_is_said(pefslc: Cli, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = pefslc("deploy", build, "pynq")
    assert (result.status, "cannot run ssh: No such file or directory" in result.err) == (1, True)


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=x", "a b", "a;b", "a@-b", "a@b@c", "$(x)", "a/b", "a:b", "", "a\nb", "a\n", "`x`", "a'b"]
)
def test_what_is_no_host_is_refused(host: str, pefslc: Cli, build: Path, board: Path) -> None:
    assert not is_host(host)
    result = pefslc("deploy", build, "--", host)
    assert (result.status, list(board.iterdir())) == (2, [])


@pytest.mark.parametrize("host", ["pynq", "xilinx@pynq", "xilinx@192.168.2.99", "a_b.c-d@e.f-g", "pynq.local"])
def test_hosts_by_name_or_address_are_taken(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "folder", ["-r", "a b", "a;b", "../a", "a/../b", "~/a", "$HOME", "a\n", "", "a'b", "a/-b", "a:b"]
)
def test_what_a_shell_may_misread_is_no_folder(folder: str, pefslc: Cli, build: Path, board: Path) -> None:
    assert not is_remote_folder(folder)
    result = pefslc("deploy", build, "pynq", f"--folder={folder}")
    assert (result.status, list(board.iterdir())) == (2, [])


def test_what_was_not_compiled_for_a_board_is_refused(pefslc: Cli, tmp_path: Path, compiled: Path) -> None:
    api.compile(EXAMPLE, target="c").save(tmp_path / "c")
    result = pefslc("deploy", tmp_path / "c")
    assert (result.status, "names no script for a board" in result.err) == (1, True)
    for path in compiled.iterdir():
        if path.suffix != ".json":
            shutil.copy(path, tmp_path)
    result = pefslc("deploy", tmp_path / f"{NAME}.tmodel")
    assert (result.status, "has no sidecar: pefslc did not compile it" in result.err) == (1, True)
    assert pefslc("deploy", tmp_path / "nothing").status == 2


def test_a_board_without_linux_is_refused_whatever_the_file_of_its_architecture_is_called(
    pefslc: Cli, tmp_path: Path
) -> None:
    arch = tmp_path / "mine.tarch"
    arch.write_bytes((Path(architecture.__file__).parent / "arch" / "cmoda7.tarch").read_bytes())
    for given in ("cmoda7", str(arch)):
        api.compile(EXAMPLE, target="tensil", arch=given).save(tmp_path / "build")
        result = pefslc("deploy", tmp_path / "build")
        assert (result.status, result.out) == (1, "")
        assert "error[PEF0814]" in result.err
        assert "a board without Linux" in result.err


@pytest.mark.parametrize("content", ["", "{", '{"source": 1}'])
def test_a_damaged_sidecar_is_named(pefslc: Cli, build: Path, content: str) -> None:
    (sidecar,) = build.glob("*.json")
    sidecar.write_text(content)
    for result in (pefslc("deploy", build), pefslc("deploy", build / f"{NAME}_run.py")):
        assert result.status == 1
        assert "error[PEF0803]" in result.err
        assert f"{NAME}.tensil.json' has the name of a sidecar and is none" in result.err


def test_the_root_of_the_board_is_no_folder_for_a_model(pefslc: Cli, build: Path) -> None:
    result = pefslc("deploy", build, "--folder", "/")
    assert result.status == 2
    assert "for example models/cnn" in result.err
    assert pefslc("deploy", build, "--folder", "models/cnn").status == 0
