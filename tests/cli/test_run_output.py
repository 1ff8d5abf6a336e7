"""`pefslc run -o`: an earlier result is replaced, nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli

from pefslc.diagnostics.errors import CompileError
from pefslc.files.staging import write_file


@pytest.fixture
def build(pefslc: Cli, model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "build"
    assert pefslc(model, "--target", "fake", "-o", folder, "-q").status == 0
    return folder


def test_an_earlier_result_is_replaced(pefslc: Cli, build: Path, inputs: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "y.npz", old=np.zeros(1))
    assert pefslc("run", build, "--inputs", inputs, "-o", tmp_path / "y.npz").status == 0
    assert np.load(tmp_path / "y.npz").files == ["y"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("inputs.npz", "holds the inputs"),
        ("linked.npz", "holds the inputs"),
        ("mlp.onnx", "exists and is no .npz file"),
        ("build/mlp.fake", "exists and is no .npz file"),
        ("build/mlp.fake.json", "exists and is no .npz file"),
        ("build", "is in the way and is no plain file"),
        ("pipe.npz", "is in the way and is no plain file"),
        ("symbolic.npz", "is in the way and is no plain file"),
    ],
)
def test_what_is_no_result_stays(
    pefslc: Cli, build: Path, inputs: Path, tmp_path: Path, name: str, message: str
) -> None:
    os.link(inputs, tmp_path / "linked.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "symbolic.npz").symlink_to("nowhere.npz")
    output = tmp_path / name
    before = os.lstat(output)
    result = pefslc("run", build, "--inputs", inputs, "-o", output)
    assert result.status == 1
    assert result.err == f"error[PEF0806]: '{output}' {message}\n  help: give another path with -o\n"
    after = os.lstat(output)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CompileError, match="is in the way and is no plain file"):
        write_file(tmp_path / "pipe", b"")
