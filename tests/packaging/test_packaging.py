"""The wheel: alone in its name, and working away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("lowering", "frontend", "passes", "targets", "pyproject.toml", "README.md", "LICENSE")
EXAMPLE = ROOT / "examples" / "cnn_bnfold_q2_3.onnx"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools would leave, and take, what lies in build/."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-v", "-w", built, copy]
    ended = subprocess.run(command, check=True, cwd=built, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    (built / "log").write_text(ended.stdout + ended.stderr)
    (path,) = built.glob("pefslc-*.whl")
    return path


def test_the_wheel_holds_only_pefslc(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"pefslc"}
    assert "pefslc/py.typed" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_setuptools_takes_no_folder_of_data_for_a_package(wheel: Path) -> None:
    log = (wheel.parent / "log").read_text()
    assert "running bdist_wheel" in log
    assert "would be ignored" not in log


def test_the_installed_wheel_compiles_for_both_targets(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", site, wheel]
    subprocess.run(install, check=True, stdin=subprocess.DEVNULL)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: object) -> str:
        command = [sys.executable, *map(str, arguments)]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert run("-c", "import pefslc; print(pefslc.__file__)").startswith(str(site))
    for target in ("c", "tensil"):
        inputs = EXAMPLE.with_suffix(".npz")
        out = run("-m", "pefslc", EXAMPLE, "--target", target, "-o", tmp_path / "build", "--verify", inputs)
        assert f"40 of 40 outputs equal: {target} and 'y_ref64'" in out
