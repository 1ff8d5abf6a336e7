"""`--report`: an earlier report is replaced, nothing else; where it cannot be written, nothing is."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from cli_support import Cli

from pefslc.artifacts.costs import CostReport, is_cost_report


@pytest.fixture
def compiled(pefslc: Cli, model: Path, inputs: Path, tmp_path: Path) -> Cli:
    """Compile mlp.onnx for C into build/, with more arguments."""
    del inputs
    arguments = (model, "--target", "c", "--verify", tmp_path / "inputs.npz", "-o", tmp_path / "build", "-q")
    return lambda *more: pefslc(*arguments, *more)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_earlier_report_is_replaced(compiled: Cli, tmp_path: Path) -> None:
    report = tmp_path / "costs.json"
    assert compiled("--report", report).status == 0
    written = report.read_bytes()
    report.write_bytes(written.replace(b'"mlp"', b'"earlier"'))
    assert compiled("--report", report).status == 0
    assert report.read_bytes() == written


def test_the_report_may_lie_in_the_folder_that_the_compile_makes(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "build"
    for report in (folder / "costs.json", folder.parent / "costs.json"):
        assert pefslc(model, "--target", "c", "-o", folder, "--report", report).status == 0
        assert is_cost_report(report.read_bytes())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlp.onnx", "exists and is no earlier report"),
        ("inputs.npz", "exists and is no earlier report"),
        ("README.md", "exists and is no earlier report"),
        ("settings.json", "exists and is no earlier report"),
        ("folder", "is in the way and is no plain file"),
        ("pipe.json", "is in the way and is no plain file"),
        ("symbolic.json", "is in the way and is no plain file"),
        ("build/mlp.h", "is a file that this compile writes"),
        ("build/mlp.c.json", "is a file that this compile writes"),
        ("folder/../build/mlp.c.json", "is a file that this compile writes"),
    ],
)
def test_what_is_no_report_stays(compiled: Cli, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "settings.json").write_text('{"model": "mine"}')
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "symbolic.json").symlink_to("README.md")
    before = everything(tmp_path)
    report = tmp_path / name
    result = compiled("--report", report)
    assert result.status == 1
    assert result.err == f"error[PEF0806]: '{report}' {message}\n  help: give another path with --report\n"
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["mlp.h", "mlp.c.json"])
def test_an_artifact_of_an_earlier_compile_stays(compiled: Cli, tmp_path: Path, name: str) -> None:
    assert compiled().status == 0
    before = everything(tmp_path)
    assert compiled("--report", tmp_path / "build" / name).status == 1
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/costs.json", "No such file or directory"),
        ("mlp.onnx/costs.json", "Not a directory"),
        (f"{'x' * 300}.json", "File name too long"),
    ],
)
def test_a_report_that_cannot_be_written_stops_the_compile(
    compiled: Cli, tmp_path: Path, name: str, reason: str
) -> None:
    before = everything(tmp_path)
    result = compiled("--report", tmp_path / name)
    assert result.status == 1
    told = f"error[PEF0805]: cannot write '{tmp_path / name}': {reason}\n  help: give another path with --report\n"
    assert result.err == told
    assert everything(tmp_path) == before
    assert not (tmp_path / "build").exists()


def test_a_folder_that_is_read_only_stops_the_compile(
    compiled: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What root may do all the same, hence not by chmod."""
    real = tempfile.TemporaryFile

    def refused(*arguments: object, **named: object) -> object:
        if named.get("dir") == tmp_path:
            raise PermissionError(13, "Permission denied")
        return real(*arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    result = compiled("--report", tmp_path / "costs.json")
    assert result.status == 1
    assert "': Permission denied\n  help: give another path with --report\n" in result.err
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"layers": []}', b"1"])
def test_other_content_is_no_report(content: bytes) -> None:
    assert not is_cost_report(content)


def test_a_report_that_replaces_a_dump_is_refused(compiled: Cli, tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    result = compiled("--dump-dir", tmp_path / "steps", "--report", tmp_path / "steps" / "00_import.ir")
    assert (result.status, "exists and is no earlier report" in result.err) == (1, True)
    assert not (tmp_path / "build").exists()


def test_an_empty_report_is_one() -> None:
    fields = CostReport(model="m", target="c", arch=None, layers=()).to_json()
    assert is_cost_report(json.dumps(fields).encode())
