"""From a network to emitted C, and from that to what a row needs: objects and their sizes, a library, a program."""

from __future__ import annotations

import ctypes
import json
import re
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from c_models import Network
from c_processors import Emulated, Host
from numpy.typing import NDArray

import pefslc
from pefslc.targets.c.compiled_size import most_stack
from pefslc.targets.options import options_of

__all__ = [
    "Emitted",
    "Failed",
    "Library",
    "Size",
    "build_library",
    "build_program",
    "c_text",
    "emit",
    "layout_of",
    "run",
]

HERE = Path(__file__).resolve().parent
_GCC = re.compile(r"(^|-)gcc(-\d+)?$")
_SECONDS = 300

Codes = NDArray[np.integer]


class Failed(Exception):
    """A command failed, or is not there; its text says why, in a line."""


def run(command: Sequence[str | Path], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Raises Failed."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        raise Failed(f"there is no {words[0]}") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{words[0]} takes more than {_SECONDS} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line or "undefined" in line] or [""]
        raise Failed(f"{words[0]} ended with status {done.returncode}: {lines[0][:200]}")
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """A network in C, for one --cpu.

    sources         names of the files: functions first, then constants
    x, y            codes of the network's images and of its exact outputs [IMAGES, elements], of the types of the C
    ram_bytes       arena, input and output
    seconds         of the processor, from the file to the C
    """

    folder: Path
    prefix: str
    function: str
    sources: tuple[str, ...]
    network: Network
    x: Codes
    y: Codes
    ram_bytes: int
    arena_bytes: int
    seconds: float

    @property
    def call(self) -> tuple[str, ...]:
        """Flags by which c_time.c and c_counts.c find the network."""
        return ("-I", str(self.folder), f'-DHEADER="{self.prefix}.h"', f"-DRUN={self.function}")


def layout_of(cpu: str) -> str:
    """What this version of pefslc takes as --cpu for a row: "generic" for a name that it does not know, "" for none."""
    known = [option.known() for option in options_of(pefslc.CTarget) if option.name == "cpu" and option.known]
    return (cpu if cpu in known[0] else "generic") if known else ""


def emit(network: Network, model: Path, cpu: str, folder: Path, threads: int = 1) -> Emitted:
    """The C of a network's file. Raises Failed where pefslc refuses it, or is not exact."""
    options: dict[str, object] = {"emit_main": True}
    layout = layout_of(cpu)
    if layout:
        options["cpu"] = layout
    if threads > 1:
        options["threads"] = threads
    start = time.process_time()
    try:
        program = pefslc.compile(model, target="c", **options)
        program.save(folder)
    except pefslc.CompileError as e:
        raise Failed(f"refused: {e.problems[0].message}") from None
    seconds = time.process_time() - start
    if not program.exact:
        raise Failed("the C is not exact to the file")
    sidecar = json.loads((folder / program.sidecar.file_name).read_text())
    details = sidecar["details"]
    x_end, y_end = details["arguments"]
    arrays = [end for end in (x_end, y_end) if "place" not in end]  # others have room in the arena
    sizes = [np.dtype(_numpy_type(end["type"])).itemsize * int(np.prod(end["shape"])) for end in arrays]
    y_zero = -float(sidecar["outputs"][0]["offset"][0]) / network.y_scale
    return Emitted(
        folder=folder,
        prefix=details["header"].removesuffix(".h"),
        function=details["function"],
        sources=tuple(details["sources"]),
        network=network,
        x=_codes(network.x, network.x_scale, sidecar["inputs"][0]["zero_point"], x_end["type"]),
        y=_codes(network.y, network.y_scale, y_zero, y_end["type"]),
        ram_bytes=details["arena_bytes"] + sum(sizes),
        arena_bytes=details["arena_bytes"],
        seconds=seconds,
    )


def _numpy_type(c_type: str) -> str:
    return c_type.removesuffix("_t")


def _codes(values: NDArray[np.float64], scale: float, zero: float, c_type: str) -> Codes:
    codes = np.rint(values / scale) + zero
    kept: Codes = codes.astype(_numpy_type(c_type)).reshape(len(values), -1)
    assert (kept == codes.reshape(len(values), -1)).all(), "the C has other codes than the network"
    return np.ascontiguousarray(kept)


@dataclass(frozen=True, slots=True)
class Size:
    """What a compiler made of a network.

    code_bytes      of the network's file: its functions, and what it has of constants beside the weights' file
    constant_bytes  of the weights' file
    stack_bytes     the most at one time; None where the compiler does not say
    seconds         of the compiler, its own time
    """

    code_bytes: int
    constant_bytes: int
    stack_bytes: int | None
    seconds: float


def compile_objects(emitted: Emitted, command: Sequence[str], size: str, out: Path) -> tuple[list[Path], Size]:
    """The network's files, compiled into the folder `out`; `size` is the program that tells their sizes."""
    out.mkdir(parents=True, exist_ok=True)
    graph = ["-fcallgraph-info=su"] if _GCC.search(command[0]) else []
    objects, sections, before = [], [], _children_seconds()
    for name in emitted.sources:
        objects.append((out / name).with_suffix(".o"))
        run([*command, *graph, "-c", emitted.folder / name, "-o", objects[-1]], out)
    seconds = _children_seconds() - before
    for path in objects:
        sections.append(int(run([size, path]).stdout.splitlines()[1].split()[0]))
    graphs = [path.read_text() for path in sorted(out.glob("*.ci"))]
    return objects, Size(sections[0], sum(sections[1:]), most_stack(graphs) if graphs else None, seconds)


def _children_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


class Library:
    """A network in this process."""

    def __init__(self, emitted: Emitted, path: Path) -> None:
        self._emitted = emitted
        self._library = ctypes.CDLL(str(path))
        self._nanoseconds = self._library.nanoseconds_of
        self._nanoseconds.restype = ctypes.c_int64
        self._nanoseconds.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        self._library.run_once.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._y = np.zeros_like(emitted.y[0])

    def differing(self) -> int:
        """How many codes are not the exact ones, on all images."""
        total = 0
        for x, y in zip(self._emitted.x, self._emitted.y, strict=True):
            self._library.run_once(x.ctypes.data, self._y.ctypes.data)
            total += int((self._y != y).sum())
        return total

    def seconds(self, calls: int) -> float:
        """Of that many calls, on the first image."""
        return float(self._nanoseconds(calls, self._emitted.x[0].ctypes.data, self._y.ctypes.data)) * 1e-9


def build_library(emitted: Emitted, host: Host, out: Path) -> tuple[Path, Size]:
    """A shared library for `Library`. Raises Failed."""
    command = [host.compiler, *host.flags, "-fPIC", "-fvisibility=hidden"]
    objects, size = compile_objects(emitted, command, "size", out)
    path = out / "network.so"
    run([*command, "-D_GNU_SOURCE", *emitted.call, "-shared", HERE / "c_time.c", *objects, "-o", path], out)
    return path, size


def build_program(emitted: Emitted, row: Emulated, out: Path) -> tuple[Path, Size]:
    """A program of c_counts.c for the row's processor. Raises Failed."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "case.h").write_text(_case(emitted))
    command = [f"{row.tools}gcc", *row.flags]
    sources: list[Path] = [HERE / "c_counts.c"]
    if not row.libc:
        sources.append(HERE / "c_freestanding.c")
        (out / "string.h").write_text(_STRING_H)
    command += ["-I", str(out)]
    objects, size = compile_objects(emitted, command, f"{row.tools}size", out)
    link = [a.replace("FOLDER", str(emitted.folder)).replace("PREFIX", emitted.prefix) for a in row.link]
    path = out / "network.elf"
    run([*command, *emitted.call, *sources, *objects, *link, "-o", path], out)
    return path, size


_STRING_H = """#include <stddef.h>
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
"""


def _case(emitted: Emitted) -> str:
    x, y = emitted.x[0], emitted.y[0]
    return f"{c_text('case_input', x)}{c_text('case_expected', y)}static {y.dtype}_t case_output[{len(y)}];\n"


def c_text(name: str, codes: Codes) -> str:
    """A constant array."""
    numbers = "\n".join(" ".join(f"{int(code)}," for code in codes[i : i + 24]) for i in range(0, len(codes), 24))
    return f"static const {codes.dtype}_t {name}[{len(codes)}] = {{\n{numbers}\n}};\n"
