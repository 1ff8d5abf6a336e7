"""Architecture files: field widths, what is reserved, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import pefslc
from pefslc.diagnostics.errors import CompileError
from pefslc.driver.compiled_artifact import Artifact, open_artifact
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import (
    Architecture,
    DataType,
    architecture_from_json,
    built_in_architectures,
    load_architecture,
)
from pefslc.targets.tensil.runner import TensilRunner
from pefslc.targets.tensil.target import TensilTarget

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"


@pytest.mark.parametrize(
    ("name", "size_bytes", "operands", "addresses"),
    [
        ("pynqz1", 8, (16, 24, 16), (13, 20)),
        ("custom_perf", 8, (16, 24, 16), (13, 20)),
        ("ultra96v2", 9, (24, 24, 16), (15, 21)),
        ("zcu104", 9, (24, 24, 16), (14, 21)),
        ("zcu104_uram", 9, (24, 24, 16), (16, 21)),
        ("cmoda7", 8, (16, 24, 16), (12, 15)),
    ],
)
def test_field_widths_of_the_boards(
    name: str, size_bytes: int, operands: tuple[int, int, int], addresses: tuple[int, int]
) -> None:
    a = load_architecture(name)
    assert a.instruction_size_bytes == size_bytes
    assert (a.operand0_bits, a.operand1_bits, a.operand2_bits) == operands
    assert (a.address0_bits, a.address1_bits) == addresses


def test_json_round_trip() -> None:
    for name, path in built_in_architectures().items():
        a = load_architecture(name)
        assert a.to_json_dict() == json.loads(path.read_text())
        assert architecture_from_json(a.to_json_dict(), at=name) == a


def test_data_type_ranges() -> None:
    assert (DataType.FP16BP8.min_code, DataType.FP16BP8.max_code, DataType.FP16BP8.one) == (-32768, 32767, 256)
    assert DataType.FP18BP10.bytes_per_scalar == 4
    assert [t.width_bits for t in DataType] == [8, 16, 18, 32]


def test_reserved_vectors_include_the_c_drivers_masked_address() -> None:
    assert load_architecture("pynqz1").reserved_local_vectors == {8191}
    assert load_architecture("ultra96v2").reserved_local_vectors == {20479, 4095}
    assert load_architecture("pynqz1").reserved_dram0_vectors == {1048574, 1048575}
    assert load_architecture("pynqz1").usable_dram0_vectors == 1048574


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CompileError, match=r"unknown architecture 'pynq'") as caught:
        load_architecture("pynq")
    assert "custom_perf" in str(caught.value)
    assert ".tarch" in str(caught.value)


def test_a_path_is_read(tmp_path: Path, custom_perf: Architecture) -> None:
    path = tmp_path / "mine.tarch"
    path.write_text(json.dumps(dataclasses.replace(custom_perf, array_size=6).to_json_dict()))
    assert load_architecture(path).array_size == 6


def test_all_faults_of_a_file_are_reported_together(custom_perf: Architecture) -> None:
    value: dict[str, object] = dict(custom_perf.to_json_dict())
    del value["local_depth"]
    value |= {"array_size": 1, "dram0_depth": "big", "stride0_depth": True, "colour": 3, "number_of_threads": 2}
    with pytest.raises(CompileError) as caught:
        architecture_from_json(value, at="x.tarch")
    text = str(caught.value)
    for part in ("'local_depth' is missing", "'colour'", "array_size is 1", "dram0_depth", "stride0_depth", "threads"):
        assert part in text
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize("name", ["FLOAT32", "FP8", None, ["FP16BP8"]])
def test_other_data_types_are_refused(custom_perf: Architecture, name: object) -> None:
    with pytest.raises(CompileError, match="data_type"):
        architecture_from_json({**custom_perf.to_json_dict(), "data_type": name}, at="x")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"{", b"[1]", b"[" * 100000])
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.tarch"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CompileError):
        load_architecture(path)


def test_a_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.tarch"
    path.write_text('{"array_size": 8, "array_size": 12}')
    with pytest.raises(CompileError, match=r"board\.tarch' is not JSON: key 'array_size' stands there twice"):
        load_architecture(path)


@pytest.mark.parametrize(
    "field", [f.name for f in dataclasses.fields(Architecture) if f.name not in ("data_type", "axi_bytes")]
)
def test_every_number_may_be_its_least_and_no_less(custom_perf: Architecture, field: str) -> None:
    """A matrix of one lane is none, and two vectors of DRAM0 belong to the flush probe."""
    least = {"array_size": 2, "dram0_depth": 3}.get(field, 1)
    value = custom_perf.to_json_dict()
    assert getattr(architecture_from_json({**value, field: least}, at="x"), field) == least
    with pytest.raises(CompileError, match=f"{field} is {least - 1}, must be in {least}\\.\\."):
        architecture_from_json({**value, field: least - 1}, at="x")


@pytest.mark.parametrize(("board", "axi_bytes"), [("pynqz1", 8), ("custom_perf", 8), ("zcu104", 16), ("ultra96v2", 16)])
def test_the_bus_is_the_boards_and_in_no_file_of_tensils(board: str, axi_bytes: int, tmp_path: Path) -> None:
    architecture = load_architecture(board)
    assert architecture.axi_bytes == axi_bytes
    assert len(architecture.to_json_dict()) == 11
    path = tmp_path / "mine.tarch"
    path.write_text(json.dumps(architecture.to_json_dict()))
    assert load_architecture(path).axi_bytes == 8
    assert load_architecture(path) == architecture, "the same words are computed"
    path.write_text(json.dumps({**architecture.to_json_dict(), "axi_bytes": 16}))
    with pytest.raises(CompileError, match="unknown key 'axi_bytes'"):
        load_architecture(path)


def test_what_is_read_back_is_modelled_with_the_bus_of_its_board(tmp_path: Path) -> None:
    """Of a sidecar that says nothing of it, with 64 bits."""
    program = pefslc.compile(EXAMPLE, target="tensil", arch="zcu104")
    program.save(tmp_path)

    opened = open_artifact(tmp_path)
    assert isinstance(opened, Artifact)
    older = dataclasses.replace(
        opened.sidecar, details={name: value for name, value in opened.sidecar.details.items() if name != "axi_bytes"}
    )
    runners = opened.runner, TensilTarget().runner(tmp_path, older)
    cycles = [model_cycles(runner.program).total for runner in runners if isinstance(runner, TensilRunner)]
    assert cycles[0] == program.emission.cycles
    assert cycles[1] > 1.1 * cycles[0]
