"""`pefslc doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from cli_support import Cli
from jsonschema import Draft202012Validator

from pefslc.console.json_schemas import SCHEMAS
from pefslc.driver import environment
from pefslc.version import __version__

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent.parent / "pyproject.toml").read_text())["project"]
DECLARED = ["numpy>=1.26", "onnx<1.23,>=1.17", 'pillow>=10.1; extra == "fewshot"', 'torch==2.13.0; extra == "train"',
            'pefslc[fewshot,train]; extra == "sweep"', 'joblib>=1.3; extra == "sweep"']  # fmt: skip
HERE = {"numpy": "2.4.6", "onnx": "1.22.0", "torch": "2.14.0"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Package -> version, of a Python that has these and no others; a test may change it."""
    found = dict(HERE)

    def its_version(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(environment, "requires", lambda _: DECLARED)
    monkeypatch.setattr(environment, "version", its_version)
    return found


def lines(text: str) -> dict[str, str]:
    """The first word of each line -> the rest of it."""
    return {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line.strip()}


def test_this_python_has_what_every_command_needs(pefslc: Cli) -> None:
    found = pefslc("doctor")
    assert found.status == 0, found.out
    assert found.out.startswith(f"pefslc {__version__}, Python 3.")
    assert version("numpy") in lines(found.out)["numpy"]


@pytest.mark.usefixtures("installed")
def test_an_extra_says_what_it_lacks_and_how_to_get_it(pefslc: Cli) -> None:
    found = pefslc("doctor")
    assert found.status == 0
    assert '(pillow): pip install "pefslc[fewshot]"' in lines(found.out)["fewshot"]
    assert "(torch 2.14.0)" in lines(found.out)["train"]
    assert "(pillow, torch 2.14.0, joblib)" in lines(found.out)["sweep"]


@pytest.mark.parametrize(("package", "there"), [("onnx", "1.23.0"), ("numpy", None)])
def test_what_every_command_needs_is_demanded(
    pefslc: Cli, installed: dict[str, str], package: str, there: str | None
) -> None:
    del installed[package]
    if there is not None:
        installed[package] = there
    found = pefslc("doctor")
    assert found.status == 1
    assert (there or "missing") in lines(found.out)[package]
    assert f'pip install "{package}' in lines(found.out)[package]
    assert f"pefslc cannot work: {package};" in found.out


def test_tools_that_are_not_there_are_missing_and_no_fault(
    pefslc: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "qemu-system-arm"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    found = json.loads(pefslc("doctor", "--json").out)
    paths = {tool["name"]: (tool["path"], tool["version"]) for tool in found["tools"]}
    assert paths["C compiler"] == (None, None)
    assert paths["qemu-system-arm"] == (str(broken), None)
    assert pefslc("doctor").status == 0


def test_json_is_as_its_schema_says(pefslc: Cli) -> None:
    found = json.loads(pefslc("doctor", "--json").out)
    Draft202012Validator(SCHEMAS["doctor"]).validate(found)
    assert all(package["fits"] for package in found["packages"])


def test_the_extras_are_those_of_the_package() -> None:
    assert set(environment.EXTRAS) == set(PROJECT["optional-dependencies"])


def test_a_pefslc_that_is_not_installed_is_told_so(pefslc: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> list[str]:
        raise PackageNotFoundError("pefslc")

    monkeypatch.setattr(environment, "requires", nothing)
    found = pefslc("doctor")
    assert found.status != 0
    assert "pefslc is not installed here: pip install ." in found.err
