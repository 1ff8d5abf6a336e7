"""What `pefslc doctor` looks at: the packages that pefslc and its extras need, and the tools of this machine.

Which versions are wanted stands in pyproject.toml alone; an installed pefslc has it as metadata. Nothing is imported:
a package that is broken shall not break the answer.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from pefslc.diagnostics.errors import CompileError
from pefslc.targets.c.host_compiler import find_compiler

__all__ = ["EXTRAS", "Extra", "Package", "Tool", "extras", "required_packages", "tools"]

_OURS = "pefslc"
_SECONDS = 10  # for a tool to tell its version

# Extra -> what it is for. A test holds the names to those of pyproject.toml.
EXTRAS = {
    "train": "training with Brevitas, and compiling a torch network",
    "fewshot": "few-shot learning from picture files",
    "sweep": "fewshot sweep: many formats, measured",
    "report": "pefslc report: its page and pictures",
    "view": "graphs in Netron",
    "docs": "building this documentation",
    "test": "the tests",
    "dev": "nox and pre-commit",
    "bench": "ONNX Runtime beside the emitted C: make bench-c",
    "field": "files as other exporters write them",
}

# Command -> what it is for. The C compiler is looked for as `pefslc run` does.
_TOOLS = {
    "arm-none-eabi-gcc": "to build for a Cortex-M",
    "qemu-system-arm": "to run a Cortex-M program here",
    "ssh": "pefslc deploy",
    "scp": "pefslc deploy",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A package as pyproject.toml wants it ("<1.23,>=1.17"; "" for any version), and its version here, if any."""

    name: str
    wanted: str
    installed: str | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Extra:
    """An optional part of pefslc; `packages` holds those of the extras that it contains, too."""

    name: str
    purpose: str
    packages: tuple[Package, ...]

    @property
    def missing(self) -> tuple[Package, ...]:
        return tuple(package for package in self.packages if not package.fits)


@dataclass(frozen=True, slots=True)
class Tool:
    """A command of this machine: its path and the first line of `--version`, each None where there is none."""

    name: str
    purpose: str
    path: str | None
    version: str | None


def required_packages() -> tuple[Package, ...]:
    """What every command needs. Raises PackageNotFoundError where pefslc itself is not installed."""
    return tuple(_packages(None))


def extras() -> tuple[Extra, ...]:
    """Each extra of `EXTRAS`. Raises PackageNotFoundError where pefslc itself is not installed."""
    return tuple(Extra(name, purpose, tuple(_packages(name))) for name, purpose in EXTRAS.items())


def tools() -> tuple[Tool, ...]:
    """A C compiler, and what serves boards and microcontrollers."""
    purpose = "to run C here: --verify, pefslc run"
    try:
        command = find_compiler()
        path = shutil.which(command[0])
        compiler = Tool("C compiler", purpose, path, None if path is None else _first_line(path))
    except CompileError:
        compiler = Tool("C compiler", purpose, None, None)
    found = [(name, use, shutil.which(name)) for name, use in _TOOLS.items()]
    others = (
        Tool(name, use, path, None if path is None or use == "pefslc deploy" else _first_line(path))
        for name, use, path in found
    )
    return (compiler, *others)


def _packages(extra: str | None) -> Iterator[Package]:
    """Those of an extra, or of pefslc itself, in the order of pyproject.toml."""
    for requirement in map(Requirement, requires(_OURS) or ()):
        of_extra = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        chosen = requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""})
        if not chosen or of_extra is (extra is None):
            continue
        if requirement.name == _OURS:  # an extra that contains others
            for inner in sorted(requirement.extras):
                yield from _packages(inner)
        else:
            yield _package(requirement)


def _package(requirement: Requirement) -> Package:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        installed = None
    fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
    return Package(requirement.name, str(requirement.specifier), installed, fits)


def _first_line(path: str) -> str | None:
    """What a tool says of its version; None where it does not start."""
    try:
        ended = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return next(iter(ended.stdout.splitlines()), "") or None
