"""`pefslc disassemble`: a listing that the assembler reads back."""

from __future__ import annotations

from pathlib import Path

from cli_support import Cli

import pefslc as package
from pefslc.targets.tensil.listing import parse_listing
from pefslc.targets.tensil.tmodel import load_tmodel

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
