"""The package as users get it: complete, alone in its name, and working away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = {"lowering": "pefslc", "frontend": "pefslc.frontend", "passes": "pefslc.passes", "targets": "pefslc.targets"}
EXAMPLE = ROOT / "examples" / "cnn_bnfold_q2_3.onnx"


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_in_the_tree() -> dict[str, Path]:
    found = {}
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found[".".join((package, *parts))] = init.parent
    return found


def test_the_package_list_equals_the_tree(pyproject: dict[str, Any]) -> None:
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted(packages_in_the_tree())


def test_every_folder_with_modules_is_a_package() -> None:
    packages = set(packages_in_the_tree().values())
    for folder in FOLDERS:
        assert {p.parent for p in (ROOT / folder).rglob("*.py")} <= packages


def test_every_data_file_is_packaged(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["*"]
    packages = set(packages_in_the_tree().values())
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_dir() or path.suffix in (".py", ".pyc") or "__pycache__" in path.parts:
                continue
            package = next(p for p in path.parents if p in packages)
            relative = path.relative_to(package).as_posix()
            assert any(fnmatch(relative, pattern) for pattern in patterns), f"{path} is not in package-data"


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    modules = {p.stem for folder in FOLDERS for p in (ROOT / folder).rglob("*.py")} - {"__main__"}
    assert not modules & set(sys.stdlib_module_names)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools would leave, and take, what lies in build/."""
    copy = tmp_path_factory.mktemp("source")
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", built, copy]
    subprocess.run(command, check=True, cwd=built, stdin=subprocess.DEVNULL)
    (path,) = built.glob("pefslc-*.whl")
    return path


def test_the_wheel_holds_only_pefslc(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"pefslc"}
    assert "pefslc/py.typed" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)


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
