"""Fixtures: the head's emitted C as a running program with sanitizers; a system that was built."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fewshot.head_actors import InC, InPython, write_program
from fewshot.head_specs import SPECS
from fewshot.system_support import ARCH, MEAN, STD, frames, tiny_backbone

from pefslc.fewshot.system.build import build_system

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZERS = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def compiler() -> str:
    """gcc's or clang's path."""
    found = shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler")
    return found


@pytest.fixture(scope="session")
def c_heads(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, InC]]:
    """The emitted C of SPECS, compiled with warnings as errors and sanitizers, and running."""
    folder = tmp_path_factory.mktemp("heads")
    sources = write_program(folder, SPECS)
    program = folder / "obey"
    command = [compiler, *WARNINGS, *SANITIZERS, "-O0", *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield {name: InC(process, i, spec) for i, (name, spec) in enumerate(SPECS.items())}
        assert process.stdin is not None
        process.stdin.close()
    assert process.returncode == 0


@pytest.fixture(scope="session")
def heads(c_heads: dict[str, InC], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[InPython, InC]]:
    """What is emitted of SPECS."""
    folder = tmp_path_factory.mktemp("modules")
    return {name: (InPython(SPECS[name], folder), in_c) for name, in_c in c_heads.items()}


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system of tiny_backbone for C and for a board. Who changes it copies it."""
    folder = tmp_path_factory.mktemp("system")
    source = tiny_backbone(folder)
    build_system(source, folder / "build", mean=MEAN, std=STD, centre_pictures=frames(9, 0), arch=ARCH)
    return folder / "build"
