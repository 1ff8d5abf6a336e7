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
