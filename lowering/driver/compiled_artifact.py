"""Compiled artifacts, found again on disk: the sidecar says which target runs them, on what, and what comes out."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import Sidecar, load_sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, quote
from pefslc.diagnostics.progress import Progress
from pefslc.driver.target_registry import find_target, target_names
from pefslc.files.reading import unreadable
from pefslc.files.replacement import half_replaced
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level
from pefslc.ir.interpret import apply_output_map, as_batches, quantize_input
from pefslc.ir.row_batches import rows_between
from pefslc.ir.value import CodeRange, TensorType, Value
from pefslc.numeric.scale import Scale
from pefslc.reports.clipped_inputs import ClippedInput, clipped_inputs
from pefslc.targets.protocol import Runner, Target
from pefslc.targets.tensil.simulate.driver import run_tmodel

__all__ = ["Artifact", "BareProgram", "open_artifact"]

Floats = NDArray[np.float64]

_CHUNK_ROWS = 8


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled model on disk."""

    sidecar: Sidecar
    runner: Runner

    @property
    def target(self) -> str:
        """The target that it was compiled for."""
        return self.sidecar.target

    def clipped(self, inputs: Mapping[str, NDArray[np.generic]]) -> tuple[ClippedInput, ...]:
        """What of the inputs of `run` is clipped."""
        interface = interface_of(self.sidecar)
        return clipped_inputs(interface.inputs, as_batches(interface, inputs)[0])

    def run(self, inputs: Mapping[str, NDArray[np.generic]], progress: Progress | None = None) -> dict[str, Floats]:
        """Output name -> float64 values, for inputs by name (or "x") in the ONNX shape, any number of rows."""
        interface = interface_of(self.sidecar)
        arrays, rows = as_batches(interface, inputs)
        parts: dict[str, list[Floats]] = {o.name: [] for o in interface.outputs}
        for start in range(0, rows, _CHUNK_ROWS):
            if progress is not None:
                progress(start, rows, f"run on {self.sidecar.target}")
            codes = {}
            for i in interface.inputs:
                chunk = rows_between(arrays[i.name], i.value.type.shape[0], start, start + _CHUNK_ROWS)
                codes[i.name] = quantize_input(i, chunk)
            results = self.runner.run(codes)
            for o in interface.outputs:
                parts[o.name].append(apply_output_map(o, results[o.name]))
        return {name: np.concatenate(found) for name, found in parts.items()}


@dataclass(frozen=True, slots=True)
class BareProgram:
    """A .tmodel that no sidecar describes: Tensil's own, say. Runs as the driver runs it, on flat arrays."""

    path: Path
    target: ClassVar[str] = "tensil"

    def clipped(self, _: Mapping[str, NDArray[np.generic]]) -> tuple[ClippedInput, ...]:
        """Nothing: it takes words as they are, and refuses what none holds."""
        return ()

    def run(self, inputs: Mapping[str, NDArray[np.generic]], progress: Progress | None = None) -> dict[str, Floats]:
        """Output name -> values [runs, size], for flat inputs by name (or "x")."""
        del progress
        return run_tmodel(self.path, inputs)


def open_artifact(path: Path, target: Target | None = None) -> Artifact | BareProgram:
    """The artifact in a folder, of a sidecar, or that a file belongs to. Raises CompileError.

    target  what runs it, where that is neither ours nor installed
    """
    folder = path if path.is_dir() else path.parent
    unfinished = half_replaced(folder)  # before the files are read: what is done in the meantime is done
    try:
        if path.suffix == ".tmodel" and not any(path.name in load_sidecar(p).files for p in _sidecars(folder)):
            if path.name in unfinished:
                raise _half_replaced(folder, unfinished)
            return BareProgram(path)
        sidecar = load_sidecar(_sidecar_path(path))
    except CompileError as e:
        if unfinished and e.problems[0].code in (Code.ARTIFACT_CHANGED, Code.NOT_AN_ARTIFACT):
            raise _half_replaced(folder, unfinished) from None
        raise
    if target is not None and target.name != sidecar.target:
        raise CompileError(
            Code.UNKNOWN_TARGET,
            f"{quote(path)} was compiled for target {quote(sidecar.target)}, not for {quote(target.name)}",
            hint="leave --target out, or give that target",
        )
    return Artifact(sidecar, (target or _target_of(sidecar)).runner(folder, sidecar))


def _target_of(sidecar: Sidecar) -> Target:
    """The target that a sidecar names. Raises CompileError where it is neither ours nor installed."""
    if sidecar.target not in target_names():
        raise CompileError(
            Code.UNKNOWN_TARGET,
            f"unknown target {quote(sidecar.target)}, for which {quote(sidecar.file_name)} was compiled",
            hint="where the target is a class in a file: --target FILE.py:Class; else install its package",
        )
    return find_target(sidecar.target)


def _half_replaced(folder: Path, names: frozenset[str]) -> CompileError:
    sidecars = sorted(name for name in names if name.endswith(".json"))
    return CompileError(
        Code.ARTIFACT_CHANGED,
        f"the files of {', '.join(map(quote, sidecars or sorted(names)))} in {quote(folder)} are half replaced: "
        "a compile is writing them, or was ended while it did",
        hint="wait until it has ended, or compile the model again",
    )


def interface_of(sidecar: Sidecar) -> Graph:
    """The inputs and outputs of a sidecar as an integer graph without operations."""
    inputs = []
    for i in sidecar.inputs:
        q = i.quantizer.quantization
        element = CodeRange(low=q.low, high=q.high, scale=q.scale, zero_point=q.zero_point)
        value = Value(i.name, TensorType(i.shape, element), Origin("", "input"))
        inputs.append(GraphInput(i.name, value, i.quantizer, i.stages, i.channel_axis, i.integers))
    outputs = []
    for o in sidecar.outputs:
        element = CodeRange(low=o.low, high=o.high, scale=Scale.power_of_two(0))
        value = Value(o.name, TensorType(o.shape, element), Origin("", "output"))
        outputs.append(GraphOutput(o.name, value, o.map, o.function))
    return Graph(sidecar.model, Level.INTEGER, tuple(inputs), (), tuple(outputs))


def _sidecar_path(path: Path) -> Path:
    if path.suffix == ".json" and not path.is_dir():
        return path
    found = _sidecars(path if path.is_dir() else path.parent)
    if not path.is_dir():
        found = [p for p in found if path.name in load_sidecar(p).files]
    if len(found) == 1:
        return found[0]
    if not found:
        if damaged := _named_like_sidecars(path if path.is_dir() else path.parent):
            raise CompileError(
                Code.ARTIFACT_CHANGED,
                f"{quote(damaged[0])} has the name of a sidecar and is none: it is damaged, or another file",
                hint="copy it again, or compile the model again",
            )
        raise CompileError(
            Code.NOT_AN_ARTIFACT,
            f"{quote(path)} is nothing that pefslc compiled: no sidecar <name>.<target>.json names it",
            hint="give the folder that a compile wrote into",
        )
    names = ", ".join(quote(p.name) for p in found)
    raise CompileError(
        Code.SEVERAL_ARTIFACTS, f"{quote(path)} holds {len(found)} artifacts: {names}", hint="give one of these files"
    )


def _named_like_sidecars(folder: Path) -> list[Path]:
    """The files that are called as a sidecar of a target that there is, and hold none."""
    named = [p for name in target_names() for p in sorted(folder.glob(f"*.{glob.escape(name)}.json")) if p.is_file()]
    return [p for p in named if p not in _sidecars(folder)]


def _sidecars(folder: Path) -> list[Path]:
    """The files that look like sidecars; what is broken is found when it is loaded."""
    try:
        files = [p for p in sorted(folder.glob("*.*.json")) if p.is_file()]
        return [p for p in files if b'"source_sha256"' in p.read_bytes()]
    except OSError as e:
        raise unreadable(folder, e, "folder") from None
