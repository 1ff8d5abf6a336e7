"""`pefslc fewshot`: what the commands answer to mistakes, to a full disk, and to an end in the middle."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli
from fewshot.system_support import MEAN, STD, tiny_backbone

from pefslc.diagnostics.error_codes import Code
from pefslc.fewshot.system.build import build_system
from pefslc.files.folder_lock import locked

Image = pytest.importorskip("PIL.Image")


ENROL = ("fewshot", "enrol", "build", "desk.state")
CLASSIFY = ("fewshot", "classify", "build", "desk.state")
FORGET = ("fewshot", "forget", "build", "desk.state", "--class", "mug")
BUILD = ("fewshot", "build", "tiny.onnx", "-o", "x", "--std", "1")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((*ENROL, "--class", "mug"), 1, f"error[{Code.NO_SHOTS}]: there are no pictures to learn"),
        ((*ENROL, "--class", "mug", "pictures"), 1, "there are no pictures in 'pictures'"),
        ((*ENROL, "pictures/mug"), 2, "give --class NAME and its pictures, or --folder DIR"),
        ((*ENROL, "--class", "mug", "--folder", "pictures"), 2, "give --class NAME and its pictures"),
        ((*ENROL, "--folder", "pictures", "more.png"), 2, "'more.png' is one more"),
        ((*ENROL, "--folder", "pictures/mug"), 1, "'pictures/mug' holds no folders"),
        ((*ENROL, "--folder", "nowhere"), 2, "'nowhere'"),
        ((*ENROL, "--class", "mug", "nowhere.png"), 2, f"error[{Code.NO_SUCH_FILE}]: no such file: 'nowhere.png'"),
        ((*ENROL, "--class", "mug", "broken.png"), 1, "picture 'broken.png' cannot be read: "),
        ((*ENROL, "--class", "mug", "float.tif"), 1, "picture 'float.tif' cannot be read: mode F is not read"),
        ((*ENROL, "--class", "mug", *["pictures/mug"] * 2), 1, "10 shots of class 'mug' are too many"),
        ((*ENROL, "--class", "", "pictures/mug"), 1, f"error[{Code.HEAD_NAME}]: a class has no name"),
        ((*ENROL, "--class", "  ", "pictures/mug"), 1, f"error[{Code.HEAD_NAME}]: a class has no name"),
        (
            (*ENROL, "--class", " ka ", "pictures/mug"),
            1,
            "begins or ends with a blank\n  help: leave the blank out: 'ka'",
        ),
        (
            (*ENROL, "--class", "mug", "wide.tif"),
            1,
            "picture 'wide.tif' cannot be read: mode I, of 32 bits, is not read",
        ),
        ((*CLASSIFY, "k" * 300 + ".png"), 1, "File name too long"),
        (("fewshot", "inspect", "/dev/full"), 1, "'/dev/full' is no file"),
        (("fewshot", "enrol", "build", "/dev/full", "--class", "mug", "pictures/mug"), 1, "'/dev/full' is no file"),
        ((*ENROL, "--class", "m" * 33, "pictures/mug"), 1, "has 33 bytes"),
        ((*ENROL, "--class", "mug", "pictures/mug/2.png", "--device", "6"), 2, "is the state of another device"),
        ((*ENROL, "--class", "mug", "pictures/mug/2.png", "--device", "-1"), 2, "--device"),
        ((*ENROL, "--class", "mug", "pictures/mug/2.png", "--engine", "gpu"), 2, "--engine"),
        (("fewshot", "enrol", "build", "no/x.state", "--class", "mug", "pictures/mug"), 0, ""),
        (("fewshot", "enrol", "build", "notes.txt", "--class", "mug", "pictures/mug"), 1, "the state in 'notes.txt'"),
        (("fewshot", "enrol", "build", "cut.state", "--class", "mug", "pictures/mug"), 1, "is cut short"),
        (("fewshot", "enrol", "pictures", "x.state", "--class", "a", "pictures/mug"), 1, f"error[{Code.NOT_A_SYSTEM}]"),
        (("fewshot", "enrol", "nowhere", "x.state", "--class", "a", "pictures/mug"), 1, "there is no folder 'nowhere'"),
        ((*CLASSIFY,), 1, "there are no pictures to recognise"),
        ((*CLASSIFY, "pictures/mug", "--threshold", "near"), 2, "--threshold: 'near' is no number"),
        ((*CLASSIFY, "pictures/mug", "--threshold", "1e999999999"), 2, "--threshold: '1e999999999' is no number"),
        ((*CLASSIFY, "pictures/mug", "--threshold", "1.5"), 1, "the threshold 3/2 is not in 0 to 1"),
        ((*CLASSIFY, "pictures/mug", "--threshold", "1.5"), 1, "  help: a squared cosine is in 0 to 1, such as 81/100"),
        ((*BUILD, "--mean", "0.5,x,0.5"), 1, "mean is '0.5, x, 0.5'\n  help: one number, or three, of red, green and "),
        ((*BUILD, "--mean", "0.5", "--std", "0"), 1, "std is '0'"),
        (
            (*BUILD, "--mean", "0", "--fmt", "Q7.8"),
            1,
            "\n  help: leave out --fmt: the formats that the backbone was trained in are then taken",
        ),
        ((*BUILD, "--mean", "128"), 1, "mean is '128', and the values of pictures are img / 255"),
        ((*BUILD, "--mean", "0", "--max-shots", "0"), 1, "  help: the shots of a class, at most: --max-shots 4095"),
        (
            ("fewshot", "build", "tiny.onnx", "-o", "x", "--std", "1"),
            2,
            "'tiny.onnx' has no card beside it: give --mean",
        ),
        (
            ("fewshot", "build", "tiny.onnx", "-o", "x"),
            2,
            "give --mean and --std, as it was trained\n  help: for example ",
        ),
        (
            ("fewshot", "build", "spoilt.onnx", "-o", "x"),
            2,
            "'spoilt.json' is no card of 'spoilt.onnx': give --mean and --std",
        ),
        ((*FORGET, "pictures/cup/0.png"), 1, "class 'mug' counts 2 shots, and this cannot be one of them"),
        (("fewshot", "classify", "build", "x.state", "pictures/mug"), 2, "no such file: 'x.state'"),
        (("fewshot", "classify", "build", "foreign.state", "pictures/mug"), 1, "belongs to another backbone"),
        (("fewshot", "forget", "build", "desk.state", "--class", "jar"), 1, "there is no class 'jar'"),
        (("fewshot", "forget", "build", "x.state", "--class", "jar"), 2, "no such file: 'x.state'"),
        (("fewshot", "merge", "desk.state", "foreign.state"), 1, "belongs to another backbone"),
        (("fewshot", "merge", "desk.state", "desk.state"), 1, "of device 5 are in 'desk.state' and in 'desk.state'"),
        (
            ("fewshot", "merge", "desk.state", "foreign.state"),
            1,
            "the state in 'foreign.state' belongs to another",
        ),
        (("fewshot", "merge", "desk.state"), 2, "error: OTHERS is missing\n  help: "),
        (("fewshot", "inspect", "notes.txt"), 1, "the state in 'notes.txt' is none"),
    ],
)
def test_mistakes_are_answered(
    pefslc: Cli, learned: Path, here: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    content = learned.read_bytes()
    (here / "spoilt.onnx").write_bytes(tiny_backbone(here).read_bytes())
    (here / "spoilt.json").write_text("{")
    (here / "notes.txt").write_text("not a state")
    (here / "cut.state").write_bytes(content[:-9])
    (here / "foreign.state").write_bytes(foreign(content))
    (here / "broken.png").write_bytes((here / "pictures/mug/0.png").read_bytes()[:60])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(here / "float.tif")
    Image.fromarray(np.zeros((4, 4), np.int32)).save(here / "wide.tif")
    result = pefslc(*arguments)
    assert (result.status, said in result.err) == (status, True), result.err
    assert "Traceback" not in result.err
    assert learned.read_bytes() == content


def foreign(content: bytes) -> bytes:
    """The same state of another backbone and another device."""
    import zlib

    changed = content[:16] + bytes(32) + content[48:-4]
    return changed + zlib.crc32(changed).to_bytes(4, "little")


def test_all_broken_pictures_are_told_and_nothing_is_learned(pefslc: Cli, here: Path) -> None:
    for name in ("a.png", "b.png"):
        (here / name).write_bytes(b"no picture")
    result = pefslc("fewshot", "enrol", "build", "x.state", "--class", "a", "a.png", "pictures/mug/0.png", "b.png")
    assert result.err.count("error[") == 2
    assert not (here / "x.state").exists()


def test_without_a_c_compiler_the_tcu_is_simulated(
    pefslc: Cli, learned: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pefslc(*CLASSIFY, "pictures/mug").out
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    result = pefslc(*CLASSIFY, "pictures/mug")
    assert (result.status, result.out) == (0, expected)
    assert result.err == "note: no C compiler: the TCU is simulated, slower and with the same codes\n"
    assert pefslc(*CLASSIFY, "pictures/mug", "--engine", "c").err.startswith(f"error[{Code.NO_C_COMPILER}]")
    build_system(tiny_backbone(here), here / "c_only", mean=MEAN, std=STD)
    result = pefslc("fewshot", "classify", "c_only", learned, "pictures/mug")
    assert result.err.startswith(f"error[{Code.NO_C_COMPILER}]: no C compiler found")


@pytest.mark.usefixtures("learned")
def test_without_pillow_the_message_says_how_to_get_it(pefslc: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    result = pefslc(*CLASSIFY, "pictures/mug")
    assert result.status == 1
    assert result.err.count(f"error[{Code.NO_FEWSHOT_EXTRA}]: reading picture files needs pillow") == 1


def test_a_full_disk_loses_nothing(pefslc: Cli, learned: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = learned.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = pefslc(*ENROL, "--class", "mug", "pictures/mug/2.png")
    assert result.status == 1
    assert result.err.startswith(f"error[{Code.CANNOT_WRITE}]: cannot write 'desk.state': No space left on device")
    assert learned.read_bytes() == content
    assert sorted(p.name for p in here.iterdir()) == ["build", "desk.state", "pictures"]


def test_a_second_process_waits_or_is_refused(pefslc: Cli, learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pefslc.files.folder_lock._PATIENCE_S", 0.0)
    content = learned.read_bytes()
    with locked(learned.parent):
        result = pefslc(*ENROL, "--class", "mug", "pictures/mug/2.png")
        assert result.err.startswith(f"error[{Code.FOLDER_IN_USE}]")
        assert pefslc(*CLASSIFY, "pictures/mug").status == 0  # who only reads does not wait
    assert learned.read_bytes() == content


_ENROLLING = """
import sys
from pefslc.console import cli
while True:
    assert cli.run(["fewshot", "enrol", "build", "x.state", "--class", "mug", "pictures/mug/0.png", "-q"]) == 0
    assert cli.run(["fewshot", "forget", "build", "x.state", "--class", "mug", "pictures/mug/0.png", "-q"]) == 0
    print("saved", flush=True)
"""


def test_killed_while_it_enrols_the_state_is_one_that_was_saved(pefslc: Cli, here: Path) -> None:
    pefslc("fewshot", "enrol", "build", "x.state", "--class", "mug", "pictures/mug/1.png", "--device", 1)
    without = (here / "x.state").read_bytes()
    pefslc("fewshot", "enrol", "build", "x.state", "--class", "mug", "pictures/mug/0.png")
    with_it = (here / "x.state").read_bytes()
    (here / "x.state").write_bytes(without)
    draw = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", _ENROLLING], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(draw.randint(1, 4)):
            assert process.stdout.readline() == "saved\n"
        time.sleep(draw.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (here / "x.state").read_bytes() in (without, with_it)
        (here / "x.state").write_bytes(without)
    assert pefslc("fewshot", "enrol", "build", "x.state", "--class", "mug", "pictures/mug/0.png").status == 0
    assert (here / "x.state").read_bytes() == with_it
