"""The wheel and the sdist: complete, alone in their name, and working away from the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import pefslc
from distributions import (
    ROOT,
    Distributions,
    build,
    readme_commands,
    run_as_the_readme_says,
    source_files,
    twine_faults,
)
from links import documentation_url


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return build(tmp_path_factory.mktemp("built"), isolated=False)


def test_the_wheel_holds_only_pefslc(built: Distributions) -> None:
    names = zipfile.ZipFile(built.wheel).namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"pefslc"}
    assert "pefslc/py.typed" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_setuptools_takes_no_folder_of_data_for_a_package(built: Distributions) -> None:
    assert "running bdist_wheel" in built.log
    assert "would be ignored" not in built.log


def test_the_sdist_holds_every_file_of_the_checkout(built: Distributions) -> None:
    """What it holds beside them is setuptools' own: its metadata."""
    checkout, sdist = source_files(built.unpacked.parents[1] / "source"), source_files(built.unpacked)
    own = {name for name in sdist | checkout if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    assert checkout - own == sdist - own
    assert {"Makefile", "noxfile.py", "LICENSE", "tests/conftest.py", "examples/cnn_float.onnx"} <= sdist


def test_the_installed_wheel_runs_the_commands_of_the_readme(built: Distributions, tmp_path: Path) -> None:
    """On the small example; `make release-check` takes the README's own, with each distribution's dependencies."""
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site), str(built.wheel)]
    subprocess.run(install, check=True, stdin=subprocess.DEVNULL)
    (tmp_path / "examples").symlink_to(built.unpacked / "examples")
    environment = {"PYTHONPATH": str(site)}

    where = [sys.executable, "-c", "import pefslc; print(pefslc.__file__)"]
    origin = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert origin.startswith(str(site))
    explained = [sys.executable, "-m", "pefslc", "explain", "PEF0504"]
    page = subprocess.run(explained, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert page.startswith("### PEF0504: ")
    assert {p.name for p in (site / "pefslc" / "docs").iterdir()} == {p.name for p in (ROOT / "docs").glob("*.md")}
    compared = run_as_the_readme_says(Path(sys.executable), tmp_path, environment, "cnn_bnfold_q2_3")
    assert compared == [f"40 of 40 outputs equal: {target} and 'y_ref64'" for target in ("tensil", "c")]


def test_a_package_index_would_take_both(built: Distributions) -> None:
    pytest.importorskip("twine")
    assert {path: faults for path, faults in twine_faults(built).items() if faults} == {}


def test_the_package_s_page_has_absolute_links_and_says_where_the_site_is(built: Distributions) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = wheel.read(name).decode()
    url = documentation_url()
    assert f"\nProject-URL: Documentation, {url}\n" in metadata
    assert "\nDescription-Content-Type: text/markdown\n" in metadata
    assert f"]({url}boards.html)" in metadata
    assert not re.findall(r"\]\((?!https?://|#)[^)\n]*\)", metadata)


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {pefslc.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_outputs_that_are_not_the_model_s_fail_the_check(tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    examples.mkdir()
    shutil.copy(ROOT / "examples" / "cnn_bnfold_q2_3.onnx", examples)
    arrays = dict(np.load(ROOT / "examples" / "cnn_bnfold_q2_3.npz"))
    np.savez(examples / "cnn_bnfold_q2_3.npz", **{**arrays, "y_ref64": arrays["y_ref64"] + 1})
    with pytest.raises(RuntimeError, match=r"--target tensil .* ended with 1:"):
        run_as_the_readme_says(Path(sys.executable), tmp_path, example="cnn_bnfold_q2_3")


def test_the_readme_shows_a_compile_for_each_target() -> None:
    targets = [command[command.index("--target") + 1] for command in readme_commands()]
    assert targets == ["tensil", "c"]


def test_the_first_entry_of_the_changelog_is_of_this_version() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == pefslc.__version__
