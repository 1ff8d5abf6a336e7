"""`pefslc fewshot`: what the commands say and write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli
from fewshot.head_oracle import Oracle
from fewshot.system_support import MEAN, STD, codes_by_definition, tiny_backbone

from pefslc.diagnostics.error_codes import Code
from pefslc.fewshot.head.state import id_of_name
from pefslc.fewshot.head.state_file import load_state
from pefslc.fewshot.system.engines import LIBRARIES
from pefslc.fewshot.system.system import FewShotSystem

Image = pytest.importorskip("PIL.Image")
NAMES = ("mug", "cup", "pot")


def test_the_help_shows_a_session(pefslc: Cli) -> None:
    result = pefslc("fewshot", "--help")
    assert result.status == 0
    assert "  enrol     learn pictures of a class, or a folder of classes\n" in result.out
    assert "pefslc fewshot classify build/ desk.state photo.png" in result.out
    assert pefslc("fewshot").status == 2
    assert pefslc("fewshot", "enroll").err == "error: no command 'enroll'\n  help: did you mean 'enrol'?\n"
    assert pefslc("fewshot", "xyz").err == "error: no command 'xyz'\n  help: pefslc fewshot --help\n"
    assert "did you mean the command 'disassemble'?" in pefslc("disasemble", "x.tmodel").err


@pytest.mark.parametrize("command", ["build", "enrol", "classify", "forget", "merge", "inspect", "split"])
def test_every_command_has_help(pefslc: Cli, command: str) -> None:
    result = pefslc("fewshot", command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: pefslc fewshot {command}")


@pytest.mark.usefixtures("here")
def test_commands_load_no_compiler() -> None:
    """Half a second is not much: onnx alone takes a third of it."""
    program = (
        "import sys\nfrom pefslc.console import cli\n"
        "c = ['pictures/cup/0.png']\n"
        "assert cli.run(['fewshot', 'enrol', 'build', 'x.state', '--class', 'cup', *c]) == 0\n"
        "assert cli.run(['fewshot', 'classify', 'build', 'x.state', *c]) == 0\n"
        "heavy = {'onnx', 'onnx_graphsurgeon', 'rich', 'jinja2', 'networkx', 'pefslc.driver.compiler', 'torch',\n"
        "    'pefslc.targets.tensil', 'pefslc.passes'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_enrolled_pictures_are_recognised(pefslc: Cli, here: Path) -> None:
    result = pefslc("fewshot", "enrol", "build", "x.state", "--class", "mug", "pictures/mug/0.png")
    assert (result.status, result.out) == (0, "mug: 1 shot learned, 1 in all\nwrote x.state: 1 class\n")
    result = pefslc("fewshot", "enrol", "build", "x.state", "--folder", "pictures")
    assert result.out == (
        "cup: 4 shots learned, 4 in all\nmug: 4 shots learned, 5 in all\npot: 4 shots learned, 4 in all\n"
        "wrote x.state: 3 classes\n"
    )
    state = load_state(here / "x.state")
    assert {state.name(c): state.classifier.shots(c) for c in state.classifier.classes} == {
        "cup": 4,
        "mug": 5,
        "pot": 4,
    }
    assert id_of_name("mug") in state.classifier.classes
    result = pefslc("fewshot", "classify", "build", "x.state", "pictures/cup", "pictures/mug/2.png")
    assert result.status == 0
    assert [line.split()[:2] for line in result.out.splitlines()[2:]] == [
        *([f"pictures/cup/{i}.png", "cup"] for i in range(4)), ["pictures/mug/2.png", "mug"],
    ]  # fmt: skip
    assert result.err == ""


@pytest.mark.parametrize("engine", ["auto", "c", "tensil", "float"])
def test_scores_are_those_of_fractions(pefslc: Cli, learned: Path, engine: str) -> None:
    system = FewShotSystem.open("build")
    oracle = Oracle(system.spec)

    def exact(path: str) -> tuple[int, ...]:
        return codes_by_definition(system.fit(np.array(Image.open(path))))

    for name in NAMES:
        oracle.shots[id_of_name(name)] = [exact(f"pictures/{name}/{i}.png") for i in (0, 1)]
    result = pefslc("fewshot", "classify", "build", learned, "pictures/pot", "--json", "--engine", engine)
    found = json.loads(result.out)
    assert found["engine"] == ("c" if engine == "auto" else engine)
    assert len(found["pictures"]) == 4
    for record in found["pictures"]:
        scores = oracle.scores(exact(record["picture"]))
        first, second, _ = sorted(scores.values(), reverse=True)
        assert (Fraction(record["score"]), Fraction(record["runner_up_score"])) == (first, second)
        assert record["class_id"] == id_of_name(record["class"])
        assert scores[record["class_id"]] == first


def test_what_is_not_near_enough_is_rejected_and_votes_for_none(pefslc: Cli, learned: Path) -> None:
    every = ("fewshot", "classify", "build", learned, "pictures/pot", "--vote")
    assert pefslc(*every).out.endswith("\n\nvote: pot, 4 of 4 frames\n")
    result = pefslc(*every, "--threshold", "1")
    assert result.out.endswith("\n\nvote: none of them, 4 of 4 frames\n")
    assert "none (nearest: pot)" in result.out
    found = json.loads(pefslc(*every, "--threshold", "81/100", "--json").out)
    assert (found["threshold"], found["vote"]) == ("81/100", {"class": "pot", "frames": 4})


@pytest.mark.usefixtures("here")
def test_a_single_class_is_remarked_upon(pefslc: Cli) -> None:
    pefslc("fewshot", "enrol", "build", "x.state", "--class", "mug", "pictures/mug")
    result = pefslc("fewshot", "classify", "build", "x.state", "pictures/cup/0.png")
    assert result.status == 0
    assert result.err == (
        "note: 'mug' is the only class: every picture is one; enrol another class, or give --threshold\n"
    )
    assert pefslc("fewshot", "classify", "build", "x.state", "pictures/cup/0.png", "--threshold", "0.5").err == ""


def test_shots_and_classes_are_forgotten(pefslc: Cli, learned: Path) -> None:
    before = learned.read_bytes()
    pefslc("fewshot", "enrol", "build", learned, "--class", "cup", "pictures/cup/3.png")
    result = pefslc("fewshot", "forget", "build", learned, "--class", "cup", "pictures/cup/3.png")
    assert result.out == f"cup: 1 shot forgotten, 2 left\nwrote {learned}\n"
    assert learned.read_bytes() == before
    assert pefslc("fewshot", "forget", "build", learned, "--class", "cup").out.startswith("cup: forgotten\n")
    assert load_state(learned).find("cup") is None


def test_states_of_two_devices_are_merged(pefslc: Cli, learned: Path, here: Path) -> None:
    pefslc("fewshot", "enrol", "build", "other.state", "--class", "cup", "pictures/cup", "--device", 6)
    result = pefslc("fewshot", "merge", learned, "other.state", "-o", "both.state")
    assert result.out == "wrote both.state: 3 classes of 2 devices\n"
    pefslc("fewshot", "merge", "other.state", learned)
    assert (here / "other.state").read_bytes() == (here / "both.state").read_bytes()
    twice = pefslc("fewshot", "merge", "both.state", learned)
    assert (twice.status, twice.err.split(":")[0]) == (1, f"error[{Code.MERGED_TWICE}]")
    pefslc("fewshot", "enrol", "build", "third.state", "--class", "cup", "pictures/cup", "--device", 7)
    kept = pefslc("fewshot", "merge", learned, "third.state", "-o", "both.state")
    assert "'both.state' is in the way" in kept.err


def test_what_there_is_can_be_seen(pefslc: Cli, learned: Path) -> None:
    result = pefslc("fewshot", "inspect", "build", learned)
    assert result.status == 0
    assert "features    6 codes in 0 to 496, scale 1/128\n" in result.out
    assert "head        integer NCM, cosine in PEFSL's order, centre: base mean (4 fraction bits)\n" in result.out
    assert "engines     c, tensil, float (tensil: pynqz1)\n" in result.out
    assert "device 5; at most 9 shots a class, 4 classes, 16 devices" in result.out
    assert f"cup    {id_of_name('cup')}      2\n" in result.out
    assert result.out.endswith(pefslc("fewshot", "inspect", learned).out)
    assert pefslc("fewshot", "inspect", learned, "desk.state").status == 2
    assert "no classes" not in result.out


def test_a_system_with_a_batch_is_built_and_seen(pefslc: Cli, here: Path) -> None:
    source = tiny_backbone(here)
    given = ("fewshot", "build", source, "-o", "four", "--mean", 0, "--std", 1, "--batch", 4)
    assert "leave out the batch; or name the board" in pefslc(*given).err
    assert pefslc(*given, "--arch", "pynqz1").status == 0
    assert "(tensil: pynqz1, 4 pictures in a run)\n" in pefslc("fewshot", "inspect", "four").out


def test_a_system_is_built_from_the_command_line(pefslc: Cli, here: Path) -> None:
    """The same as from Python, with the pictures of a folder for the centre."""
    tiny_backbone(here)
    result = pefslc(
        "fewshot", "build", "tiny.onnx", "-o", "mine", "--mean", ", ".join(MEAN), "--std", STD,
        "--centre", "pictures/mug", "--max-shots", 9, "--max-classes", 4, "--centre-name", "mugs",
    )  # fmt: skip
    assert result.err == ""
    assert result.out == (
        "tiny: 6 features, integer NCM, cosine in PEFSL's order, centre: mugs (4 fraction bits)\n"
        "wrote 14 files into mine\n"
    )
    assert (here / "mine" / LIBRARIES).is_dir()  # compiled once, for the first command
    ours, theirs = FewShotSystem.open("mine"), FewShotSystem.open("build")
    assert ours.description.codes_sha256 == theirs.description.codes_sha256
    assert ours.spec != theirs.spec
    assert pefslc("fewshot", "build", "nothing.onnx", "-o", "x", "--mean", "0", "--std", "1").status == 2


def test_the_classes_of_a_folder_are_split(pefslc: Cli, here: Path) -> None:
    for i in range(8):
        shutil.copytree(here / "pictures" / NAMES[i % 3], here / "mine" / f"class{i}")
    ask = ("fewshot", "split", "mine", "--val", 2, "--novel", 3, "--least", 4)
    result = pefslc(*ask)
    assert result.out == "base: 3 classes\nval: 2 classes\nnovel: 3 classes\nwrote mine/split.json\n"
    lists = json.loads((here / "mine/split.json").read_text())
    assert sorted(name for names in lists.values() for name in names) == [f"class{i}" for i in range(8)]
    assert pefslc(*ask, "--seed", 1).status == 1
    assert pefslc(*ask, "--seed", 1, "--replace", "-q").out == ""
    assert "8 classes, 0 of them with 5 pictures" in pefslc("fewshot", "split", "mine", "--least", 5).err


def test_a_picture_that_counts_twice_is_noted(pefslc: Cli, here: Path) -> None:
    shutil.copy(here / "pictures/mug/0.png", here / "again.png")
    enrol = ("fewshot", "enrol", "build", "x.state")
    result = pefslc(*enrol, "--class", "mug", "pictures/mug", "again.png")
    assert (result.status, result.err) == (
        0, "note: 'again.png' is the same picture as 'pictures/mug/0.png': it counts as two shots of 'mug'\n",
    )  # fmt: skip
    assert "5 shots learned" in result.out
    for name in ("cup", "mug"):
        (here / "supports" / name).mkdir(parents=True)
        shutil.copy(here / "again.png", here / "supports" / name / "0.png")
    result = pefslc(*enrol, "--folder", "supports")
    assert result.err == (
        "note: 'supports/mug/0.png' is the same picture as 'supports/cup/0.png': it is a shot of 'cup' and of 'mug'\n"
    )
    assert pefslc(*enrol, "--folder", "supports", "-q").err == ""
    assert pefslc(*enrol, "--class", "pot", "pictures/pot").err == ""


def test_notes_beside_a_result_can_be_left_out(pefslc: Cli, here: Path) -> None:
    assert pefslc("fewshot", "enrol", "build", "x.state", "--class", "mug", "pictures/mug/0.png", "-q").status == 0
    classify = ("fewshot", "classify", "build", "x.state", "pictures/mug")
    loud, quiet = pefslc(*classify), pefslc(*classify, "-q")
    assert loud.err.startswith("note: 'mug' is the only class")
    assert (quiet.out, quiet.err) == (loud.out, "")
    assert (here / "x.state").exists()


def test_merging_names_the_file_that_has_the_shots(pefslc: Cli, learned: Path, here: Path) -> None:
    for name, device in (("a.state", 7), ("b.state", 8)):
        pefslc("fewshot", "enrol", "build", name, "--class", "mug", "pictures/mug/0.png", "--device", device)
    shutil.copy(here / "b.state", here / "c.state")
    content = learned.read_bytes()
    result = pefslc("fewshot", "merge", learned.name, "a.state", "b.state", "c.state")
    assert "the shots of device 8 are in 'b.state' and in 'c.state'" in result.err
    assert learned.read_bytes() == content
