"""`pefslc fewshot demo`: how it begins and ends, and what it answers to mistakes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fewshot.demo.client import Client
from fewshot.system_support import MEAN, STD, frames, tiny_backbone

from pefslc.console.cli import run
from pefslc.fewshot.demo.server import DemoServer
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.system import FewShotSystem


def started(*arguments: object) -> tuple[subprocess.Popen[str], int]:
    """`pefslc fewshot demo ...` in a process of its own, and its port."""
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever runs the tests may ignore it
        "from pefslc.__main__ import main\n"
        "main()\n"
    )
    options = ("fewshot", "demo", *map(str, arguments), "--port", "0", "--no-open")
    command = [sys.executable, "-c", script, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 30)[0], "it said nothing"
    line = process.stdout.readline()
    assert line.startswith("tiny at http://127.0.0.1:"), line
    return process, int(line.split(":")[2].split("/")[0])


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.skipif(os.name == "nt", reason="no signals for processes there")
def test_ctrl_c_ends_it_and_says_what_is_kept(build: Path, tmp_path: Path) -> None:
    path = tmp_path / "desk.state"
    process, port = started(build, "--state", path)
    client = Client(port)
    assert client.post("enrol", frames(1, 55)[0], name="mug")[0] == 200
    assert ended(process, signal.SIGINT) == (0, f"\nended; {path} has 1 class\n", "")
    client.connection.close()
    system = FewShotSystem.open(build)
    state = system.load_state(path)
    assert list(state.names.values()) == ["mug"]
    process, port = started(build)
    client = Client(port)
    client.post("enrol", frames(1, 55)[0], name="mug")
    status, out, err = ended(process, signal.SIGTERM)
    client.connection.close()
    assert (status, out) == (143, "\nended; 1 class forgotten: --state FILE would have kept them\n")
    assert err.startswith("terminated")


def test_mistakes_are_answered_before_anything_is_served(
    build: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: DemoServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def error(*arguments: object, status: int = 1) -> str:
        assert run(["fewshot", "demo", *map(str, arguments), "--no-open"]) == status
        out, err = capsys.readouterr()
        assert out == ""
        return err

    build_system(tiny_backbone(tmp_path, seed=1), tmp_path / "other", mean=MEAN, std=STD)
    other = FewShotSystem.open(tmp_path / "other")
    with other.editing(tmp_path / "other.state", new=other.new_state()):
        pass
    assert "belongs to another backbone" in error(build, "--state", tmp_path / "other.state")
    (tmp_path / "text").write_text("no state")
    assert "PEF1127" in error(build, "--state", tmp_path / "text")
    assert "is no few-shot system" in error(tmp_path)
    assert "--port 0 takes any" in error(build, "--port", server.server_address[1])
    assert "leave out --clock-mhz" in error(tmp_path / "other", "--clock-mhz", 100)
    assert "--port" in error(build, "--port", 65536, status=2)
    assert "--host" in error(build, "--host", "0.0.0.0", status=2)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "PEF0701" in error(build)
    assert run(["fewshot", "demo", "--help"]) == 0
