"""Questions about the project, each answered in an environment of its own: `nox --list`, `nox -s oldest -- tests/cli`.

`make test` asks the same of one interpreter, in .venv. What comes after `--` goes to pytest instead of the whole suite.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

ROOT = Path(__file__).parent
PYTHONS = ("3.11", "3.12", "3.13")


def starts(version: str) -> bool:
    """Whether that Python is there: one of pyenv's shims may be on the PATH with nothing behind it."""
    try:
        return subprocess.run([f"python{version}", "-c", ""], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


PRESENT = [version for version in PYTHONS if starts(version)]
for absent in sorted({*PYTHONS} - {*PRESENT}):
    print(f"noxfile: no python{absent} starts here, so tests-{absent} is left out", file=sys.stderr)

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "virtualenv"  # make's rules call pip in it
nox.options.sessions = ["lint", "types", "tests"]


@nox.session(python=PRESENT)
def tests(session: nox.Session) -> None:
    """Do the tests pass, on each Python that is there?"""
    session.install("--editable", ".[test]")
    run_tests(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Is the style as agreed?"""
    make(session, "lint")


@nox.session
def types(session: nox.Session) -> None:
    """Do the types fit?"""
    make(session, "types")


@nox.session
def docs(session: nox.Session) -> None:
    """Is what the documentation says true?"""
    session.install("--editable", ".[test]")
    run_tests(session, "tests/docs")


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """Do the tests pass with the oldest versions that pyproject.toml allows?"""
    constraints = Path(session.create_tmp()) / "oldest.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in lower_bounds()))
    session.install("--editable", ".[test]", "--constraint", str(constraints))
    run_tests(session)


@nox.session
def newest(session: nox.Session) -> None:
    """Do the tests pass with the newest versions that pyproject.toml allows?"""
    session.install("--upgrade", "--upgrade-strategy", "eager", "--editable", ".[test]")
    run_tests(session)


def lower_bounds() -> list[str]:
    """Each dependency of pyproject.toml at its lower bound: "numpy==1.26". Raises ValueError for one without."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = []
    for requirement in map(Requirement, declared):
        bounds = [clause.version for clause in requirement.specifier if clause.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(f"pyproject.toml: {requirement} needs one lower bound, name>=version")
        pins.append(f"{requirement.name}=={bounds[0]}")
    return pins


def run_tests(session: nox.Session, *selected: str) -> None:
    """pytest on what stands after `--`, else on `selected`, else on everything; first, the versions it runs with."""
    session.run("python", "-m", "pip", "list", "--format=freeze")
    session.run("python", "-m", "pytest", "-m", "not train", *(session.posargs or selected))


def make(session: nox.Session, target: str) -> None:
    """The Makefile's own rule, in the session's environment."""
    session.run("make", target, f"VENV={session.virtualenv.location}", external=True)
