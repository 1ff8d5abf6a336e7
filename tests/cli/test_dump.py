"""--dump-dir: every step as text that parses and as ONNX that loads."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from cli_support import Cli

from pefslc.ir.parse import parse_graph


def test_every_step_is_written_as_text_and_as_onnx(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    dump = tmp_path / "steps"
    arguments = (model, "--target", "fake", "-o", tmp_path / "a", "--dump-dir", dump, "-q")
    assert pefslc(*arguments).status == 0
    names = sorted(p.name for p in dump.iterdir())
    assert names[:3] == ["00_import.ir", "00_import.onnx", "01_fold-constants.ir"]
    for path in dump.glob("*.ir"):
        assert str(parse_graph(path.read_text())) == path.read_text()
        onnx.load(str(path.with_suffix(".onnx")))
    assert pefslc(*arguments).status == 0, "an earlier dump is replaced"
    assert sorted(p.name for p in dump.iterdir()) == names


def test_a_dump_shows_the_steps_before_a_refusal(pefslc: Cli, open_model: Path, tmp_path: Path) -> None:
    assert pefslc(open_model, "--target", "fake", "--dump-dir", tmp_path / "steps").status == 1
    assert (tmp_path / "steps" / "00_import.ir").exists()


def test_a_folder_with_other_files_is_left_alone(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "01_mine.onnx").write_text("mine")
    result = pefslc(model, "--target", "fake", "--dump-dir", tmp_path / "steps")
    assert result.status == 1
    assert "holds other files: '01_mine.onnx'\n  help: give an empty or a new folder" in result.err
    assert (tmp_path / "steps" / "01_mine.onnx").read_text() == "mine"


@pytest.mark.parametrize("names", [("00_import.ir",), ("00_import.ir", "00_import.onnx"), ("00_import.onnx",)])
def test_files_that_are_only_named_like_a_dump_are_left_alone(
    pefslc: Cli, model: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """The model itself may be called so."""
    steps = tmp_path / "steps"
    steps.mkdir()
    for name in names:
        (steps / name).write_bytes(model.read_bytes() if name.endswith(".onnx") else b"mine")
    before = {p.name: p.read_bytes() for p in steps.iterdir()}
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--dump-dir", steps)
    assert result.status == 1
    assert "error[PEF0806]" in result.err
    assert "holds other files: '00_import." in result.err
    assert {p.name: p.read_bytes() for p in steps.iterdir()} == before
    assert not (tmp_path / "a").exists()


def test_the_stages_of_the_target_follow_the_passes(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    dump = tmp_path / "steps"
    arguments = (model, "--target", "fake", "-o", tmp_path / "a", "--dump-dir", dump, "-q")
    assert pefslc(*arguments).status == 0
    names = sorted(p.name for p in dump.iterdir())
    last = int(names[-1][:2])
    assert names[-2:] == [f"{last - 1:02d}_fake-select.txt", f"{last:02d}_fake-schedule.txt"]
    assert names[-3].startswith(f"{last - 2:02d}_")
    assert names[-3].endswith(".onnx")
    select, schedule = (dump / name for name in names[-2:])
    assert select.read_text().startswith("// after fake-select: changed\n")
    assert schedule.read_text() == "// after fake-schedule: unchanged\nunrolled 1 times\n"
    assert pefslc(*arguments).status == 0, "an earlier dump is replaced"
    assert sorted(p.name for p in dump.iterdir()) == names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("00_fake-select.txt", "mine"),
        ("00_fake-select.txt", "// after fake-schedule: changed\n"),
        ("notes.txt", "// after notes: changed\n"),
    ],
)
def test_a_text_that_is_only_named_like_a_stage_is_left_alone(
    pefslc: Cli, model: Path, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / name).write_text(text)
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--dump-dir", tmp_path / "steps")
    assert result.status == 1
    assert f"holds other files: '{name}'" in result.err
    assert (tmp_path / "steps" / name).read_text() == text


def test_a_dump_shows_the_stages_before_the_target_refuses(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    arguments = (model, "--target", "fake", "--arch", "fails", "--dump-dir", tmp_path / "steps")
    assert pefslc(*arguments).status == 1
    assert [p.name[3:] for p in (tmp_path / "steps").glob("*.txt")] == ["fake-select.txt"]


@pytest.mark.parametrize("name", ["schedule", "fake-schedule"])
def test_a_stage_is_printed_under_both_its_names(pefslc: Cli, model: Path, tmp_path: Path, name: str) -> None:
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--print-ir-after", name, "-q")
    assert (result.status, result.out) == (0, "// after fake-schedule: unchanged\nunrolled 1 times\n")


def test_all_prints_passes_and_stages(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    shown = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--print-ir-after", "all", "-q").out
    titles = [line.split()[2] for line in shown.splitlines() if line.startswith("// after ")]
    assert titles[0] == "import:"
    assert titles[-2:] == ["fake-select:", "fake-schedule:"]


def test_an_unknown_name_is_told_the_passes_and_the_stages(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "fake", "--print-ir-after", "tile")
    assert result.status == 2
    assert "no pass or stage 'tile'; those that run: all, import, fold-constants" in result.err
    assert "fake-select, fake-schedule" in result.err


def test_the_plan_of_the_c_target_is_a_stage(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    shown = pefslc(model, "--target", "c", "-o", tmp_path / "a", "--print-ir-after", "plan", "-q").out
    assert shown.startswith(
        "// after c-plan: changed\n0: output0: u8[1,3] rows (output) = dot products, s8 x s8 (s16 on "
    )
    assert "   does dense %" in shown
