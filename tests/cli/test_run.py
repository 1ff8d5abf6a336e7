"""`pefslc run`: artifacts found on disk, inputs checked, values written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli


@pytest.fixture
def build(pefslc: Cli, model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "build"
    assert pefslc(model, "--target", "fake", "-o", folder, "-q").status == 0
    return folder


@pytest.mark.parametrize("name", ["", "mlp.fake.json", "mlp.fake"])
def test_a_folder_a_sidecar_or_a_file_runs(pefslc: Cli, build: Path, inputs: Path, tmp_path: Path, name: str) -> None:
    result = pefslc("run", build / name, "--inputs", inputs, "-o", tmp_path / "y.npz")
    assert result.status == 0, result.err
    written = np.load(tmp_path / "y.npz")
    assert written.files == ["y"]
    assert written["y"].dtype == np.float64
    assert (written["y"] == np.load(inputs)["y_ref64"]).all()


def test_without_output_the_range_is_shown(pefslc: Cli, build: Path, inputs: Path) -> None:
    assert pefslc("run", build, "--inputs", inputs).out.startswith("y [8, 3]: from 0 to ")


def test_any_batch_runs_in_pieces(pefslc: Cli, build: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(0, 1, (50, 4))
    np.savez(tmp_path / "x.npz", x=x)
    np.save(tmp_path / "x.npy", x)
    for name in ("x.npz", "x.npy"):
        result = pefslc("run", build, "--inputs", tmp_path / name, "-o", tmp_path / f"{name}.y.npz")
        assert result.status == 0, result.err
    assert np.load(tmp_path / "x.npz.y.npz")["y"].shape == (50, 3)
    assert (tmp_path / "x.npz.y.npz").read_bytes() == (tmp_path / "x.npy.y.npz").read_bytes()


def test_two_artifacts_in_one_folder_are_named(pefslc: Cli, build: Path, open_model: Path, inputs: Path) -> None:
    assert pefslc(open_model, "--target", "fake", "--fmt", "Q2.3", "-o", build).status == 0
    result = pefslc("run", build, "--inputs", inputs)
    assert result.status == 1
    assert "holds 2 artifacts: 'mlp.fake.json', 'open.fake.json'\n  help: give one of these files" in result.err
    assert pefslc("run", build / "open.fake", "--inputs", inputs).status == 0


def test_a_folder_without_artifacts(pefslc: Cli, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = pefslc("run", tmp_path / "empty", "--inputs", inputs)
    assert result.status == 1
    assert "is nothing that pefslc compiled" in result.err
    assert pefslc("run", tmp_path / "missing", "--inputs", inputs).status == 2


def test_a_changed_artifact_is_refused(pefslc: Cli, build: Path, inputs: Path) -> None:
    with (build / "mlp.fake").open("a") as file:
        file.write("\n")
    result = pefslc("run", build, "--inputs", inputs)
    assert result.status == 1
    assert "'mlp.fake' is not the file that 'mlp.fake.json' describes" in result.err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"input": np.zeros((1, 4))}, "no array for input 'x'\n  help: arrays given: 'input'; or name it 'x'"),
        ({"x": np.zeros((1, 5))}, "input 'x' has shape [1, 5], the model wants [1, 4]"),
        ({"x": np.zeros(4)}, "input 'x' has shape [4], the model wants [1, 4]"),
        ({"x": np.zeros((0, 4))}, "input 'x' is empty: shape [0, 4]\n  help: give at least one row"),
        ({"x": np.full((1, 4), np.nan)}, "input 'x' holds NaN or infinity\n  help: the first at [0, 0]: no code"),
        ({"x": np.full((1, 4), "a")}, "input 'x' holds <U1, not numbers"),
    ],
)
def test_wrong_inputs_are_explained(
    pefslc: Cli, build: Path, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    result = pefslc("run", build, "--inputs", tmp_path / "x.npz")
    assert result.status == 1
    assert message in result.err


def test_a_file_that_is_no_npz(pefslc: Cli, build: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("no arrays")
    result = pefslc("run", build, "--inputs", tmp_path / "x.npz")
    assert result.status == 1
    assert "is not an .npz file of numbers\n  help: save one with numpy.savez(path, x=inputs)" in result.err


def test_an_output_that_cannot_be_written(pefslc: Cli, build: Path, inputs: Path, tmp_path: Path) -> None:
    result = pefslc("run", build, "--inputs", inputs, "-o", tmp_path / "no" / "y.npz")
    assert result.status == 1
    assert "cannot write" in result.err
