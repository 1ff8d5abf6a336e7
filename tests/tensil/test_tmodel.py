"""The program bundle: written, read back, and refused where it is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pefslc.diagnostics.errors import CompileError, InternalError
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, load_architecture
from pefslc.targets.tensil.machine.instructions import LoadWeights, MatMul
from pefslc.targets.tensil.program.tmodel import (
    IoEntry,
    TensilProgram,
    decode_vectors,
    encode_vectors,
    load_tmodel,
    tmodel_files,
)


def example(architecture: Architecture) -> TensilProgram:
    return TensilProgram.assemble(
        architecture,
        "net",
        [LoadWeights(0, 5), MatMul(0, 0, 1)],
        constants=np.arange(-10, 10).reshape(5, 4),
        inputs=[IoEntry("x", 0, 3)],
        outputs=[IoEntry("y", 3, 2), IoEntry("z", 5, 1)],
    )


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "net.tmodel"


def test_round_trip(tmp_path: Path, small: Architecture) -> None:
    program = example(small)
    files = tmodel_files(program)
    assert list(files) == ["net.tprog", "net.tdata", "net.tmodel"]
    assert files == tmodel_files(example(small))
    back = load_tmodel(write(tmp_path, files))
    assert (back.architecture, back.name, back.code) == (small, "net", program.code)
    assert (back.inputs, back.outputs, back.load_consts_to_local) == (program.inputs, program.outputs, False)
    assert back.constants[0].vectors.tolist() == program.constants[0].vectors.tolist()
    assert tmodel_files(back) == files


def test_a_program_without_constants_has_no_tdata(tmp_path: Path, small: Architecture) -> None:
    program = TensilProgram.assemble(small, "net", [])
    files = tmodel_files(program)
    assert list(files) == ["net.tprog", "net.tmodel"]
    assert load_tmodel(write(tmp_path, files)).constants == ()


@pytest.mark.parametrize("data_type", list(DataType))
def test_constants_in_every_data_type(data_type: DataType) -> None:
    codes = np.array([[data_type.min_code, -1], [0, data_type.max_code]])
    data = encode_vectors(data_type, codes)
    assert len(data) == 4 * data_type.bytes_per_scalar
    assert decode_vectors(data_type, data, 2).tolist() == codes.tolist()


def test_fp18_has_zeros_above_its_width() -> None:
    assert encode_vectors(DataType.FP18BP10, np.array([[-1]])) == bytes.fromhex("ffff0300")
    with pytest.raises(CompileError, match="above the 18"):
        decode_vectors(DataType.FP18BP10, bytes.fromhex("ffffffff"), 1)


def test_constants_out_of_range_are_refused() -> None:
    with pytest.raises(InternalError, match="do not fit FP8BP4"):
        encode_vectors(DataType.FP8BP4, np.array([[128]]))


Edit = Callable[[dict[str, Any]], object]
DAMAGES: list[tuple[str, Edit]] = [
    ("lacks key 'prog'", lambda m: m.pop("prog")),
    ("unknown key 'comment'", lambda m: m.update(comment="hello")),
    ("the model must be a JSON object", lambda _model: None),
    ("'array_size' is missing", lambda m: m["arch"].pop("array_size")),
    ("name must be a string", lambda m: m.update(name=3)),
    ("prog must be a JSON object", lambda m: m.update(prog=[])),
    ("consts must be a list", lambda m: m.update(consts=None)),
    ("consts[0] lacks key 'base'", lambda m: m["consts"][0].pop("base")),
    ("consts[0].base must be an integer", lambda m: m["consts"][0].update(base=-1)),
    ("inputs[0].size must be an integer", lambda m: m["inputs"][0].update(size=True)),
    ("outputs[1] ends at vector 65", lambda m: m["outputs"][1].update(base=64)),
    ("consts[0] ends at vector 69", lambda m: m["consts"][0].update(base=64)),
    ("has 40 bytes, the model says 48", lambda m: m["consts"][0].update(size=6)),
    ("the model says 17", lambda m: m["prog"].update(size=17)),
    ("cannot read 'none.tprog'", lambda m: m["prog"].update(file_name="none.tprog")),
    ("leaves the model's directory", lambda m: m["prog"].update(file_name="../net.tprog")),
    ("leaves the model's directory", lambda m: m["prog"].update(file_name="/etc/hostname")),
    ("leaves the model's directory", lambda m: m["prog"].update(file_name="a\0b")),
    ("leaves the model's directory", lambda m: m["consts"][0].update(file_name="")),
    ("load_consts_to_local must be", lambda m: m.update(load_consts_to_local=0)),
]


@pytest.mark.parametrize(("message", "damage"), DAMAGES, ids=[message for message, _ in DAMAGES])
def test_damaged_models_are_refused(tmp_path: Path, small: Architecture, message: str, damage: Edit) -> None:
    path = write(tmp_path, tmodel_files(example(small)))
    model = json.loads(path.read_text())
    damage(model)
    path.write_text(json.dumps([] if "the model must" in message else model))
    with pytest.raises(CompileError) as caught:
        load_tmodel(path)
    assert message in str(caught.value)
    assert "net.tmodel" in str(caught.value)


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path, small: Architecture) -> None:
    (tmp_path / "model").mkdir()
    path = write(tmp_path / "model", tmodel_files(example(small)))
    (tmp_path / "model" / "net.tprog").rename(tmp_path / "net.tprog")
    (tmp_path / "model" / "net.tprog").symlink_to(tmp_path / "net.tprog")
    with pytest.raises(CompileError, match="leaves the model's directory"):
        load_tmodel(path)


def test_half_an_instruction_is_refused(tmp_path: Path, small: Architecture) -> None:
    files = tmodel_files(example(small))
    files["net.tprog"] += b"\0"
    files["net.tmodel"] = files["net.tmodel"].replace(b'"size": 14', b'"size": 15')
    with pytest.raises(CompileError, match="no multiple of the 7"):
        load_tmodel(write(tmp_path, files))


def test_no_file_no_model(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no such file"):
        load_tmodel(tmp_path / "net.tmodel")


def test_the_built_in_boards_survive_a_model(tmp_path: Path) -> None:
    board = load_architecture("zcu104_uram")
    path = write(tmp_path, tmodel_files(TensilProgram.assemble(board, "net", [MatMul(0, 0, 1)])))
    assert load_tmodel(path).architecture == board
