"""Output that nobody reads, that is closed, or that has no room: an exit status, never a fault of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def shell(command: str) -> tuple[int, str, str]:
    """Run a command in bash, `pefslc` being this one: status of the first that fails in a pipe, stdout, stderr."""
    pefslc = f'pefslc() {{ "{sys.executable}" -m pefslc "$@"; }}; set -o pipefail; '
    ended = subprocess.run(["bash", "-c", pefslc + command], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("command", ["pefslc inspect {model}", "pefslc {model} --target c -o {folder}/a"])
def test_a_reader_that_leaves_is_no_error(model: Path, tmp_path: Path, command: str, reader: str) -> None:
    status, _, err = shell(f"{command.format(model=model, folder=tmp_path)} | {reader}")
    assert (status, err) == (0, "")


def test_a_compile_whose_output_nobody_reads_any_more_goes_on(model: Path, tmp_path: Path) -> None:
    status, _, err = shell(f"pefslc {model} --target c --print-ir-after all -o {tmp_path}/a | head -1")
    assert (status, err) == (0, "")
    assert (tmp_path / "a" / "mlp.c.json").exists()


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(model: Path, tmp_path: Path, closed: str) -> None:
    assert shell(f"pefslc {model} --target c -o {tmp_path}/a {closed}") == (0, "", "")
    assert (tmp_path / "a" / "mlp.c.json").exists()


@pytest.mark.parametrize("command", ["passes", "--help", "inspect {model}", "inspect {model} --debug"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_without_room_is_told(model: Path, command: str, unbuffered: str) -> None:
    status, _, err = shell(f"PYTHONUNBUFFERED={unbuffered} pefslc {command.format(model=model)} > /dev/full")
    assert (status, err) == (1, "error[PEF0805]: cannot write the output: No space left on device\n")


def test_a_refusal_stays_one_when_nobody_reads(model: Path, tmp_path: Path) -> None:
    command = f"pefslc {model} --target c --fmt Q3.4 -o {tmp_path}/a 2>&1 > /dev/full"
    status, out, _ = shell(command)
    assert status == 1
    assert out.startswith("error[PEF0502]: --fmt says Q3.4")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_terminated_compile_leaves_nothing(name: str, tmp_path: Path) -> None:
    """A plugin sends the signal in the middle of a verification, when temporary files are there."""
    plugin = tmp_path / "ends.py"
    plugin.write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # whoever runs the tests may ignore it
        "from pefslc.console.cli import main\n"
        "import pefslc.verification.verify as v\n"
        f"def ends(*_, **__): os.kill(os.getpid(), signal.{name})\n"
        "import pefslc.driver.program as c\n"
        "c.verify = ends\n"
        "main()\n"
    )
    work = tmp_path / "tmp"
    work.mkdir()
    (tmp_path / "out").mkdir()
    model = Path(__file__).parent.parent.parent / "examples" / "cnn_bnfold_q2_3"
    ended = subprocess.run(
        [sys.executable, plugin, f"{model}.onnx", "--target", "tensil",
         "--verify", f"{model}.npz", "-o", tmp_path / "out"],
        env={**os.environ, "TMPDIR": str(work)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == ENDINGS["SIGTERM"]
    assert list(work.iterdir()) == []
    assert list((tmp_path / "out").iterdir()) == []


LOADS = [
    ("compile {model} --target c", "onnx"),
    ("compile {model} --target c --fmt Q2.3", "numpy"),
    ("check {model} --target c", "onnx"),
    ("inspect {model}", "onnx"),
    ("run . --inputs {model}", "numpy"),
    ("targets", "numpy"),
]
ENDINGS = {
    "SIGINT": (130, "interrupted: what was being written is there whole, or not at all\n"),
    "SIGTERM": (143, "terminated: what was being written is there whole, or not at all\n"),
    "SIGHUP": (143, "terminated: what was being written is there whole, or not at all\n"),
}


@pytest.mark.parametrize(
    ("command", "module", "name"),
    # SIGTERM ends a process that has not begun as it ends any: without a word.
    [(*load, name) for load in LOADS for name in ENDINGS if name != "SIGHUP" or load == LOADS[0]]
    + [("compile {model} --target c", "click", "SIGINT")],
)
def test_a_signal_waits_until_extension_modules_are_loaded(
    model: Path, tmp_path: Path, command: str, module: str, name: str
) -> None:
    """As an extension module does that meets an exception while it is imported, the hook aborts the process."""
    script = tmp_path / "interrupts.py"
    script.write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever runs the tests may ignore both
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            try:\n"
        f"                os.kill(os.getpid(), signal.{name})\n"
        "            except BaseException:\n"
        "                os.abort()\n"
        "sys.meta_path.insert(0, Hook())\n"
        "from pefslc.__main__ import main\n"
        "main()\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    ended = subprocess.run(
        [sys.executable, script, *command.format(model=model).split()],
        cwd=out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == ENDINGS[name]
    assert list(out.iterdir()) == []


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    """As nohup starts a compile."""
    program = (
        "import os, signal\nfrom pefslc.console.cli import main\n"
        "try: main()\nfinally: os.kill(os.getpid(), signal.SIGHUP)"
    )
    status, out, err = shell(f"trap '' HUP; {sys.executable} -c '{program}' --version")
    assert (status, err) == (0, "")
    assert out
