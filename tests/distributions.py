"""The wheel and the sdist, built away from the checkout, and the README's commands run where they are installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "ROOT",
    "Distributions",
    "build",
    "readme_commands",
    "run_as_the_readme_says",
    "source_files",
    "twine_faults",
]

ROOT = Path(__file__).resolve().parent.parent

# What the checkout holds and no build reads: what tools left there, and what git knows.
_LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv*", ".nox", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)


@dataclass(frozen=True, slots=True)
class Distributions:
    """A wheel that was built from the sdist, the sdist, its files in a folder, and what the build printed."""

    wheel: Path
    sdist: Path
    unpacked: Path
    log: str


def source_files(tree: Path) -> set[str]:
    """Every file of a tree, with its path in it, but for what Python compiled: a build imports some of ours."""
    files = (path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def build(folder: Path, *, isolated: bool) -> Distributions:
    """Both, in `folder`. A copy is built: setuptools would leave, and take, what lies in the checkout's build/.

    The copy stays as `folder`/source. Isolated builds fetch setuptools from a package registry.
    """
    shutil.copytree(ROOT, folder / "source", ignore=_LEFT_BEHIND)
    built = folder / "dist"
    command = [sys.executable, "-m", "build", "--outdir", str(built), str(folder / "source")]
    if not isolated:
        command.insert(3, "--no-isolation")
    ended = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    log = ended.stdout + ended.stderr
    if ended.returncode != 0:
        raise RuntimeError(f"the build failed:\n{log}")
    (sdist,) = built.glob("pefslc-*.tar.gz")
    (wheel,) = built.glob("pefslc-*.whl")
    with tarfile.open(sdist) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4; we made the archive
        archive.extractall(folder / "unpacked", **safe)
    (unpacked,) = (folder / "unpacked").iterdir()
    return Distributions(wheel, sdist, unpacked, log)


def twine_faults(distributions: Distributions) -> dict[str, str]:
    """File name -> what twine says against it; "" where a package index would take it. Needs twine, and no network."""
    faults = {}
    for path in (distributions.wheel, distributions.sdist):
        command = [sys.executable, "-m", "twine", "check", "--strict", str(path)]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        faults[path.name] = "" if ended.returncode == 0 else ended.stdout + ended.stderr
    return faults


def readme_commands() -> list[list[str]]:
    """The compiles in the README's console blocks, as words."""
    blocks = re.findall(r"^```console\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.findall(r"^\$ (pefslc .*)$", block, re.MULTILINE)]
    return [words for words in map(shlex.split, lines) if "--target" in words]


def run_as_the_readme_says(
    python: Path, folder: Path, environment: Mapping[str, str] | None = None, example: str | None = None
) -> list[str]:
    """Runs the README's compiles in `folder`, which has examples/, and demands exact outputs. Returns what it compared.

    python   an interpreter that imports pefslc
    example  the name of another model in examples/ for the README's
    Raises RuntimeError for a command that fails, or whose outputs are not the model's own.
    """
    compared = []
    for _, model, *options in readme_commands():
        path = model if example is None else f"examples/{example}.onnx"
        inputs = str(Path(path).with_suffix(".npz"))
        if "--verify" in options:
            options[options.index("--verify") + 1] = inputs
        else:
            options += ["--verify", inputs]
        command = [str(python), "-m", "pefslc", path, *options, "--require-exact"]
        ended = subprocess.run(
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        target = options[options.index("--target") + 1]
        equal = re.search(rf"(\d+) of \1 outputs equal: {target} and 'y_ref64'", ended.stdout)
        if ended.returncode != 0 or equal is None:
            raise RuntimeError(f"{shlex.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        compared.append(equal[0])
    return compared
