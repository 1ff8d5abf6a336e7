"""Code and stack of the emitted C: compiled for its processor where that compiler is there, else for this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pefslc.artifacts.footprint import CompiledSize
from pefslc.diagnostics.errors import CompileError
from pefslc.targets.c.host_compiler import find_compiler

__all__ = ["compiled_size", "most_stack"]

_FLAGS = ("-std=c99", "-Os")
_CALL_GRAPH = "-fcallgraph-info=su"  # of gcc 10 and later: NAME.ci, functions with their stack, and calls
_NODE = re.compile(r'^node: { title: "([^"]*)" label: "[^"]*?(\d+) bytes \([^"]*" }$', re.MULTILINE)
_EDGE = re.compile(r'^edge: { sourcename: "([^"]*)" targetname: "([^"]*)"', re.MULTILINE)
_SECONDS = 60


def compiled_size(files: Mapping[str, bytes], sources: Sequence[str], compiler: tuple[str, ...]) -> CompiledSize | None:
    """Of these sources among the emitted files; None where no compiler makes objects of them.

    compiler  the command of a cross compiler, PREFIXgcc and flags; (): this machine's
    """
    with TemporaryDirectory(prefix="pefslc-") as name:
        folder = Path(name)
        for file, content in files.items():
            if file.endswith((".h", *sources)):
                (folder / file).write_bytes(content)
        for command, size in _compilers(compiler):
            found = _measured((*command, *_FLAGS), size, folder, sources)
            if found is not None:
                return found
    return None


def _compilers(wanted: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    """(compiler, its `size`), the better first."""
    found = [(wanted, f"{wanted[0].removesuffix('gcc')}size")] if wanted and shutil.which(wanted[0]) else []
    with suppress(CompileError):  # there is none
        found.append((find_compiler(), "size"))
    return found


def _measured(command: tuple[str, ...], size: str, folder: Path, sources: Sequence[str]) -> CompiledSize | None:
    """None where the compiler does not compile them, as without a C library, or where there is no `size`."""
    shown = " ".join((Path(command[0]).name, *command[1:]))
    for flags in ((_CALL_GRAPH,), ()):  # clang has no such flag
        if _run([*command, *flags, "-c", *sources], folder) is not None:
            break
    else:
        return None
    objects = [str(Path(source).with_suffix(".o")) for source in sources]
    printed = _run([size, *objects], folder)
    if printed is None or printed.split()[:3] != ["text", "data", "bss"]:
        return None
    code = sum(int(line.split()[0]) for line in printed.splitlines()[1:])
    graphs = [path.read_text() for source in sources if (path := (folder / source).with_suffix(".ci")).exists()]
    return CompiledSize(shown, code, most_stack(graphs) if graphs else None)


def _run(command: Sequence[str], folder: Path) -> str | None:
    """What it printed; None where it failed."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def most_stack(graphs: Sequence[str]) -> int:
    """The largest sum of stacks along calls, in gcc's call graphs of some files. What they do not hold counts as 0."""
    own = {name: int(stack) for graph in graphs for name, stack in _NODE.findall(graph)}
    called: dict[str, set[str]] = {}
    for graph in graphs:
        for caller, callee in _EDGE.findall(graph):
            called.setdefault(caller, set()).add(callee)
    most: dict[str, int] = {}

    def total(name: str) -> int:  # emitted functions do not call themselves
        if name not in most:
            most[name] = own.get(name, 0) + max(map(total, called.get(name, ())), default=0)
        return most[name]

    return max(map(total, own), default=0)
