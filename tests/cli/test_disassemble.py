"""`pefslc disassemble`: a listing that the assembler reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import Cli

import pefslc as package
from pefslc.targets.tensil.program.listing import parse_listing
from pefslc.targets.tensil.program.tmodel import load_tmodel

MODEL = Path(__file__).resolve().parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"


def test_the_listing_is_the_program(pefslc: Cli, tmp_path: Path) -> None:
    package.compile(MODEL, target="tensil").save(tmp_path)
    (program,) = tmp_path.glob("*.tmodel")
    result = pefslc("disassemble", str(program))
    assert result.status == 0
    assert parse_listing(result.out) == load_tmodel(program).instructions
    assert "matmul accumulate" in result.out


def test_what_is_no_program_is_refused(pefslc: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.tmodel").write_text("{}")
    assert pefslc("disassemble", str(tmp_path / "x.tmodel")).status == 1
    assert pefslc("disassemble", str(tmp_path / "none.tmodel")).status == 2


@pytest.mark.parametrize("content", [b"# Read me", b"\xff\x00", b"[]"])
def test_another_file_is_named_as_no_tmodel(pefslc: Cli, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    result = pefslc("disassemble", tmp_path / "other")
    assert result.status == 1
    assert result.err.startswith("error[PEF0611]: ")
    assert "\n  help: give a .tmodel, as `pefslc MODEL --target tensil` writes it\n" in result.err
    assert "architecture" not in result.err


def test_a_folder_with_one_program_stands_for_it(pefslc: Cli, tmp_path: Path) -> None:
    paths = package.compile(MODEL, target="tensil").save(tmp_path)
    (program,) = (p for p in paths if p.suffix == ".tmodel")
    listing = pefslc("disassemble", program)
    assert pefslc("disassemble", tmp_path) == listing
    program.with_name("again.tmodel").write_bytes(program.read_bytes())
    result = pefslc("disassemble", tmp_path)
    assert result.status == 1
    assert result.err == (
        f"error[PEF0802]: '{tmp_path}' holds 2 programs: 'again.tmodel', '{program.name}'\n"
        "  help: give one of these files\n"
    )


def test_a_folder_without_a_program_is_refused(pefslc: Cli, tmp_path: Path) -> None:
    result = pefslc("disassemble", tmp_path)
    assert result.status == 1
    assert result.err == (
        f"error[PEF0801]: '{tmp_path}' holds no .tmodel\n"
        "  help: give a .tmodel, as `pefslc MODEL --target tensil` writes it\n"
    )
