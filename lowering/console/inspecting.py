"""`pefslc inspect MODEL`: layers, formats, accumulator bits needed and there; nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.completion import complete_target
from pefslc.console.options import (
    data_limit_option,
    format_argument,
    input_file,
    input_format_option,
    json_option,
    model_argument,
    shape_options,
    target_limits,
)
from pefslc.console.target_command import TargetCommand, chosen_target, given_options

if TYPE_CHECKING:
    from pefslc.frontend import GivenShapes
    from pefslc.numeric.format import FixedPoint

__all__ = ["inspect_model"]


@click.command(
    "inspect",
    cls=TargetCommand,
    loads="pefslc.driver.compiler",
    short_help="layers, formats, accumulator bits needed and available",
)
@model_argument
@click.option(
    "--target", metavar="NAME", shell_complete=complete_target, help="compare with the accumulator of this target"
)
@format_argument
@input_format_option
@shape_options
@data_limit_option
@click.option(
    "--calibrate",
    type=click.Path(),
    callback=input_file("an .npz file"),
    metavar="DATA.npz",
    help="sample inputs of a float model, to measure the ranges of its values",
)
@json_option
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def inspect_model(
    model: str,
    target: str | None,
    fmt: FixedPoint | None,
    input_fmt: FixedPoint | dict[str, FixedPoint] | None,
    batch: int | None,
    input_shapes: dict[str, tuple[int, ...]],
    data_limit: float,
    calibrate: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Show what MODEL computes with: per layer the formats and the accumulator bits that every input needs."""
    del debug  # read by cli.run
    from pefslc.analysis.limits import TargetLimits
    from pefslc.targets.protocol import TargetOptions

    if target is None:
        for name in given_options(click.get_current_context()):
            raise click.UsageError(f"--{name.replace('_', '-')} needs --target")
        limits = TargetLimits(64, "the interpreter")
    else:
        limits = target_limits(chosen_target(target), TargetOptions())
    from pefslc.console.json_output import inspected_json, print_json
    from pefslc.console.summary import print_inspection
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.compiler import lower_model
    from pefslc.frontend import GivenShapes
    from pefslc.reports.layer_report import layer_rows

    given = GivenShapes(batch, input_shapes)
    try:
        lowered = lower_model(
            model, limits, fmt=fmt, allow_overflow=True, given=given, input_fmt=input_fmt, data_limit=data_limit
        )
    except CompileError as e:
        if any(problem.code is not Code.MODEL_NOT_QUANTIZED for problem in e.problems):
            raise
        _inspect_float(model, given, data_limit, calibrate, as_json=as_json)
        return
    if calibrate is not None:
        raise click.UsageError("--calibrate is for float models, without --fmt: these ranges follow from the formats")
    compared = None if target is None else limits
    rows = layer_rows(lowered.integer, lowered.quantized, compared, None)
    if as_json:
        print_json(inspected_json(model, lowered.integer, rows, target, compared))
    else:
        print_inspection(lowered.integer, rows, compared)


def _inspect_float(model: str, given: GivenShapes, data_limit: float, calibrate: str | None, *, as_json: bool) -> None:
    from pefslc.console.float_inspection import float_inspection_json, print_float_inspection
    from pefslc.console.json_output import print_json
    from pefslc.driver.compile_options import data_limit_bytes
    from pefslc.files.arrays import read_arrays
    from pefslc.frontend import import_model
    from pefslc.ir.interpret import as_batches
    from pefslc.reports.float_layers import float_layers

    graph = import_model(Path(model), given, data_limit_bytes(data_limit))
    inputs = None if calibrate is None else as_batches(graph, read_arrays(Path(calibrate)))[0]
    layers = float_layers(graph, inputs)
    if as_json:
        print_json(float_inspection_json(model, layers))
    else:
        print_float_inspection(layers, measured=inputs is not None)
