"""Running the emitted C: compiled to a shared library, in a temporary folder or a cache, called through ctypes."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import Json, JsonObject, OutputRecord, Sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError, quote
from pefslc.ir.row_batches import run_whole_batches
from pefslc.targets.c.host_compiler import find_compiler
from pefslc.targets.c.library_cache import LibraryCache

__all__ = ["COMPILER_FLAGS", "CRunner"]

Codes = NDArray[np.int64]

COMPILER_FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
_INT64_BYTES = 8
_TYPES = {f"{sign}int{bits}_t": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Argument:
    onnx_name: str
    is_input: bool
    type: np.dtype[np.signedinteger] | np.dtype[np.unsignedinteger]
    shape: tuple[int, ...]


class CRunner:
    """Runs the C files that a sidecar names.

    cache  where the library is kept for the next run; without one it is deleted once it is loaded
    """

    def __init__(self, folder: Path, sidecar: Sidecar, cache: LibraryCache | None = None) -> None:
        try:
            function, sources, arena_bytes, self._arguments = _read_details(sidecar.details)
        except (KeyError, TypeError, ValueError):
            raise CompileError(
                Code.NOT_AN_ARTIFACT,
                f"{quote(sidecar.file_name)} does not describe a C program",
                hint="compile the model again",
            ) from None
        weights = sidecar.details.get("weights_file")
        foreign = [name for name in (*sources, *([] if weights is None else [weights])) if name not in sidecar.files]
        functions = [function] if weights is None else [function, str(sidecar.details.get("set_weights"))]
        if foreign or not all(map(_IDENTIFIER.fullmatch, functions)):
            raise CompileError(
                Code.NOT_AN_ARTIFACT,
                f"{quote(sidecar.file_name)} does not describe a C program",
                hint="compile the model again",
            )
        command = (*find_compiler(), *COMPILER_FLAGS)
        paths = [(folder / s).resolve() for s in sources]
        with TemporaryDirectory(prefix="pefslc-") as temporary:
            build = partial(_compile, command, paths, Path(temporary) / "model.so")
            if cache is None:
                self._library = ctypes.CDLL(str(build()))
            else:  # headers are files of the sidecar, too
                contents = ((folder / name).read_bytes() for name in sorted(sidecar.files))
                self._library = _load(cache.library(command, contents, build), build)
        self._weights = None if weights is None else self._set_weights(folder / str(weights), sidecar)
        self._function = self._library[function]
        self._function.restype = None
        self._arg_maxes = _arg_maxes(sidecar, self._library)
        self._arena: NDArray[np.int64] | None = None
        if arena_bytes is not None:
            # Aligned as its widest member may be. The struct is padded by less than that behind each of at most four.
            self._arena = np.zeros(-(-arena_bytes // _INT64_BYTES) + 4, dtype=np.int64)

    def _set_weights(self, path: Path, sidecar: Sidecar) -> NDArray[np.int64]:
        """Hand the constants to the library. Returns the memory that holds them, which must live as long."""
        content = path.read_bytes()
        memory = np.zeros(-(-len(content) // _INT64_BYTES), dtype=np.int64)  # aligned as their widest
        memory.view(np.uint8)[: len(content)] = np.frombuffer(content, dtype=np.uint8)
        name = str(sidecar.details["set_weights"])
        status = self._library[name](ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(len(content)))
        if status:
            raise InternalError(f"our C code refused its own weights: {name} returned {status}")
        return memory

    def run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        """Output codes by ONNX name, in the ONNX shape with the rows of the inputs."""
        rows: tuple[dict[str, int], dict[str, int]] = {}, {}
        for a in self._arguments:
            rows[0 if a.is_input else 1][a.onnx_name] = a.shape[0]
        return run_whole_batches(self._run, inputs, *rows)

    def _run(self, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
        first = next(a for a in self._arguments if a.is_input)
        runs = len(inputs[first.onnx_name]) // first.shape[0]
        arrays: list[NDArray[np.signedinteger] | NDArray[np.unsignedinteger]] = []
        for a in self._arguments:
            shape = (runs, *a.shape)
            if a.is_input:
                given = np.asarray(inputs[a.onnx_name])
                narrow = np.ascontiguousarray(given.reshape(shape), dtype=a.type)
                assert (narrow == given.reshape(shape)).all(), "codes outside of the input's type"
                arrays.append(narrow)
            else:
                arrays.append(np.empty(shape, dtype=a.type))
        arena = [] if self._arena is None else [ctypes.c_void_p(self._arena.ctypes.data)]
        for i in range(runs):
            self._function(*arena, *(ctypes.c_void_p(array[i].ctypes.data) for array in arrays))
        outputs = {}
        for a, array in zip(self._arguments, arrays, strict=True):
            if not a.is_input:
                outputs[a.onnx_name] = array.astype(np.int64).reshape(runs * a.shape[0], *a.shape[1:])
                if a.onnx_name in self._arg_maxes:
                    self._arg_maxes[a.onnx_name].check(array)
        return outputs


@dataclass(frozen=True, slots=True)
class _ArgMax:
    """The emitted function of an output, which is held to what the host computes."""

    function: Callable[..., None]
    indices: int
    output: OutputRecord

    def check(self, codes: NDArray[np.signedinteger] | NDArray[np.unsignedinteger]) -> None:
        """Raises InternalError where they differ. codes [runs, *shape of the output]"""
        found = np.empty((len(codes), self.indices), dtype=np.int32)
        for i in range(len(codes)):
            self.function(ctypes.c_void_p(codes[i].ctypes.data), ctypes.c_void_p(found[i].ctypes.data))
        whole = codes.astype(np.int64).reshape(-1, *codes.shape[2:])
        assert self.output.function is not None
        wanted = self.output.function.of_codes(whole, self.output.map.scale, self.output.map.offset)
        if wanted is None or not (found.reshape(-1) == wanted.reshape(-1)).all():
            raise InternalError(f"the emitted ArgMax of output {quote(self.output.name)} is not the model's")


def _arg_maxes(sidecar: Sidecar, library: ctypes.CDLL) -> dict[str, _ArgMax]:
    """Output name -> its emitted ArgMax. Raises CompileError."""
    outputs = {record.name: record for record in sidecar.outputs if record.function is not None}
    found = {}
    try:
        for record in cast("list[Mapping[str, Json]]", sidecar.details.get("arg_max", [])):
            name = str(record["function"])
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(name)
            function = library[name]
            function.restype = None
            found[str(record["output"])] = _ArgMax(
                function, int(cast("int", record["indices"])), outputs[str(record["output"])]
            )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CompileError(
            Code.NOT_AN_ARTIFACT,
            f"{quote(sidecar.file_name)} does not describe a C program",
            hint="compile the model again",
        ) from None
    return found


def _load(library: Path, build: Callable[[], Path]) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library.resolve()))
    except OSError:  # kept where nothing may be executed, or by a machine that only looks like this one
        return ctypes.CDLL(str(build()))


def _compile(command: tuple[str, ...], sources: list[Path], library: Path) -> Path:
    arguments = [*command, *map(str, sources), "-o", str(library)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InternalError(f"the C compiler refused our code:\n{done.stderr[:2000]}")
    return library


def _read_details(details: JsonObject) -> tuple[str, list[str], int | None, list[_Argument]]:
    """(function, sources, bytes of the caller's arena, arguments). Raises KeyError, TypeError or ValueError."""
    arguments = []
    for record in cast("list[Mapping[str, Json]]", details["arguments"]):
        shape = tuple(int(s) for s in cast("list[int]", record["shape"]))
        arguments.append(
            _Argument(str(record["onnx_name"]), record["direction"] == "input", _TYPES[str(record["type"])], shape)
        )
    sources = [str(s) for s in cast("list[str]", details["sources"])]
    arena = int(cast("int", details["arena_bytes"])) if details["caller_arena"] else None
    return str(details["function"]), sources, arena, arguments
