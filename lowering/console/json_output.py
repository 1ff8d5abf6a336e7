"""What --json prints: one object on stdout, described by the schemas of `pefslc schema NAME`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pefslc.analysis.limits import TargetLimits
    from pefslc.artifacts.costs import CostReport
    from pefslc.diagnostics.errors import Problem
    from pefslc.driver.program import Program
    from pefslc.ir.graph import Graph
    from pefslc.reports.clipped_inputs import ClippedInput
    from pefslc.reports.layer_report import LayerRow
    from pefslc.targets.options import Option
    from pefslc.targets.protocol import Target
    from pefslc.verification.outcome import Verification

__all__ = [
    "compiled_json",
    "inspected_json",
    "outcome_json",
    "print_json",
    "refused_json",
    "run_json",
    "target_json",
    "uncompiled_json",
]

_OF_A_TARGET = ("exact", "cycles", "implementation", "deviations")  # of a layer: not known before a target lowered it


def print_json(content: Mapping[str, object]) -> None:
    """One object on stdout. Infinities and NaN are no JSON: whoever made the object left them out."""
    print(json.dumps(content, indent=2, allow_nan=False))


def outcome_json(model: str, program: Program, verification: Verification | None = None) -> dict[str, object]:
    """Of a model that compiles: what `check` says, and the first keys of a compile."""
    from pefslc.console.float_distance import measured_distance
    from pefslc.reports.layer_report import exact_to

    distance = measured_distance(program, verification)
    return {
        "model": model,
        "target": program.target.name,
        "ok": True,
        "exact": program.exact,
        "exact_to": exact_to(program.quantized_to),
        "quantized_to": program.quantized_to or None,
        "float_model": None if distance is None else distance.to_json(),
        "problems": [],
    }


def refused_json(model: str, target: str, problems: Sequence[Problem]) -> dict[str, object]:
    """Of a model that does not compile, the keys of `outcome_json`."""
    unknown = dict.fromkeys(("exact", "exact_to", "quantized_to", "float_model"))
    found = [problem.to_json() for problem in problems]
    return {"model": model, "target": target, "ok": False, **unknown, "problems": found}


def uncompiled_json(model: str, target: str, problems: Sequence[Problem]) -> dict[str, object]:
    """A compile that was refused, with the keys of `compiled_json`."""
    unknown = dict.fromkeys(("inputs", "outputs", "layers", "modelled_cycles", "notes", "verification", "costs"))
    return {**refused_json(model, target, problems), **unknown, "files": []}


def compiled_json(
    model: str,
    program: Program,
    verification: Verification | None,
    costs: CostReport | None,
    written: Sequence[Path],
    problems: Sequence[Problem] = (),
) -> dict[str, object]:
    """A compile that ended, or one whose verification failed: with `problems`, and nothing written."""
    from pefslc.artifacts.sidecar import interface_json

    inputs, outputs = interface_json(program.graph)
    return {
        **outcome_json(model, program, verification),
        "ok": not problems,
        "problems": [problem.to_json() for problem in problems],
        "inputs": inputs,
        "outputs": outputs,
        "layers": [row.to_json() for row in program.layers],
        "modelled_cycles": program.emission.cycles,
        "notes": [*program.notes, *program.emission.notes],
        "verification": None if verification is None else verification.to_json(),
        "costs": None if costs is None else costs.to_json(),
        "files": [str(path) for path in written],
    }


def inspected_json(
    model: str, graph: Graph, rows: Sequence[LayerRow], target: str | None, limits: TargetLimits | None
) -> dict[str, object]:
    """A quantized model before a target lowers it."""
    from pefslc.artifacts.sidecar import interface_json

    inputs, outputs = interface_json(graph)
    accumulator = None
    if limits is not None:
        bits, fits = limits.accumulator_bits, not any(row.may_overflow for row in rows)
        accumulator = {"target": target, "name": limits.accumulator_name, "bits": bits, "every_sum_fits": fits}
    layers = [{key: value for key, value in row.to_json().items() if key not in _OF_A_TARGET} for row in rows]
    return {"model": model, "inputs": inputs, "outputs": outputs, "layers": layers, "accumulator": accumulator}


def run_json(
    artifact: str,
    target: str,
    results: Mapping[str, NDArray[np.float64]],
    clipped: Sequence[ClippedInput],
    written: str | None,
) -> dict[str, object]:
    """The values of a run: all of them, nested as NumPy nests them."""
    outputs = [
        {"name": name, "shape": list(values.shape), "values": values.tolist()} for name, values in results.items()
    ]
    return {
        "artifact": artifact,
        "target": target,
        "outputs": outputs,
        "clipped_inputs": [c.to_json() for c in clipped],
        "written": written,
    }


def target_json(
    target: Target, limits: TargetLimits, stages: Sequence[str], options: Sequence[Option]
) -> dict[str, object]:
    """A target under the options that were given."""
    from pefslc.driver.user_target import inner_target

    inner = inner_target(target)
    return {
        "name": target.name,
        "summary": target.summary,
        "accumulator": {"name": limits.accumulator_name, "bits": limits.accumulator_bits},
        "native_format": None if limits.native_format is None else str(limits.native_format),
        "stages": list(stages),
        "options": [_option_json(o, getattr(inner, o.name)) for o in options],
    }


def _option_json(option: Option, value: object) -> dict[str, object]:
    return {
        "flag": option.flag,
        "name": option.name,
        "type": option.type.__name__,
        "value": value if isinstance(value, bool | int | float | str) else None if value is None else str(value),
        "default": option.default,
        "help": option.help,
        "known": None if option.known is None else list(option.known()),
    }
