"""Any `.tmodel`, Tensil's own too, run as the PYNQ driver runs it: flat arrays of numbers in, flat arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.targets.tensil.check.checker import check_program
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.program.tmodel import load_tmodel
from pefslc.targets.tensil.simulate.simulator import Machine

__all__ = ["run_tmodel", "to_words"]

Floats = NDArray[np.float64]


def to_words(values: Floats, data_type: DataType) -> NDArray[np.int64]:
    """The driver's conversion: half to even, and what is out of range *wraps*."""
    words = np.rint(values * data_type.one).astype(np.int64)
    span = 1 << data_type.width_bits
    wrapped: NDArray[np.int64] = (words - data_type.min_code) % span + data_type.min_code
    return wrapped


def run_tmodel(path: Path, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Floats]:
    """Output name -> float64 values [runs, size], for inputs by name (or "x") that fill the input's vectors, one run or
    several.

    Raises CompileError for a program that the hardware would not survive, and for arrays that do not fit.
    """
    program = load_tmodel(path)
    findings = check_program(program)
    if findings:
        raise CompileError(
            Code.TCU_PROGRAM,
            f"the program is not legal on the TCU: {findings[0]}",
            at=path.name,
            hint=f"{len(findings)} findings in all; the hardware would hang or compute something else",
        )
    architecture = program.architecture
    names = list(dict.fromkeys(e.name for e in program.inputs))
    if len(names) == 1 and "x" in inputs and names[0] not in inputs:
        inputs = {names[0]: inputs["x"]}
    words = {}
    for name in names:
        if name not in inputs:
            raise CompileError(
                Code.INPUT_ARRAY,
                f"no array for input {quote(name)}",
                hint=f"arrays given: {', '.join(inputs) or 'none'}",
            )
        size = sum(e.size for e in program.inputs if e.name == name) * architecture.array_size
        values = np.asarray(inputs[name])
        if values.dtype.kind not in "fiu" or values.size % size or not values.size:
            raise CompileError(
                Code.INPUT_ARRAY,
                f"input {quote(name)} has {values.size} elements of {values.dtype}, a run reads {size} numbers",
                hint="without a sidecar, inputs are laid out as for the driver: vectors of array_size lanes, "
                "pixels in NHWC order, channels padded with zeros",
            )
        rows = values.astype(np.float64).reshape(values.size // size, -1, architecture.array_size)
        words[name] = to_words(rows, architecture.data_type)
    counts = {len(w) for w in words.values()}
    if len(counts) > 1:
        raise CompileError(Code.INPUT_ARRAY, "the inputs hold different numbers of runs")
    machine = Machine(architecture, poison_seed=0)
    machine.load_constants(program)
    found: dict[str, list[Floats]] = {}
    for row in range(counts.pop() if counts else 1):
        for name, result in machine.infer(program, {name: w[row] for name, w in words.items()}).items():
            found.setdefault(name, []).append(result.reshape(-1) / architecture.data_type.one)
    return {name: np.stack(values) for name, values in found.items()}
