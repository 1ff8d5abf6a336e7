"""`pefslc check MODEL`: everything a compile does, except writing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pefslc.console.options import (
    compile_options,
    model_argument,
    plugin_files,
    require_data_and_format,
    target_limits,
    target_option,
)
from pefslc.console.target_command import TargetCommand, chosen_target

if TYPE_CHECKING:
    from pefslc.diagnostics.errors import Problem
    from pefslc.numeric.choose_format import AutoFormat
    from pefslc.numeric.format import FixedPoint
    from pefslc.reports.float_distance import FloatDistance

__all__ = ["check"]


@click.command(
    "check",
    cls=TargetCommand,
    loads="pefslc.driver.compiler",
    short_help="whether a model compiles for a target; nothing is written",
)
@model_argument
@target_option
@compile_options
@click.option("--json", "as_json", is_flag=True, help="print the problems as JSON, for tools")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def check(
    model: str,
    target: str,
    fmt: FixedPoint | AutoFormat | None,
    calibrate: str | None,
    calibration: str,
    requantize: bool,
    input_fmt: FixedPoint | dict[str, FixedPoint] | None,
    batch: int | None,
    input_shapes: dict[str, tuple[int, ...]],
    data_limit: float,
    allow_overflow: bool,
    plugins: tuple[str, ...],
    check_passes: bool,
    require_exact: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Tell whether MODEL compiles for the target, with every reason where it does not."""
    del debug  # read by cli.run
    from pefslc.targets.protocol import TargetOptions

    chosen = chosen_target(target)
    target_limits(chosen, TargetOptions(allow_overflow=allow_overflow))
    plugin_files(plugins)
    require_data_and_format(fmt, calibrate, requantize)
    import pefslc
    from pefslc.console.float_distance import against_model, measured_distance, print_warnings
    from pefslc.diagnostics.errors import CompileError
    from pefslc.reports.layer_report import verdict

    try:
        program = pefslc.compile(
            model,
            target=chosen,
            fmt=fmt,
            calibrate=calibrate,
            calibration=calibration,
            requantize=requantize,
            input_fmt=input_fmt,
            batch=batch,
            input_shapes=input_shapes,
            data_limit=data_limit,
            plugins=plugins,
            allow_overflow=allow_overflow,
            check_passes=check_passes,
            require_exact=require_exact,
        )
    except CompileError as e:
        if not as_json:
            raise
        _print_json(model, chosen.name, None, problems=e.problems)
        raise click.exceptions.Exit(1) from None
    if as_json:
        _print_json(model, chosen.name, program.exact, program.given_format, measured_distance(program))
        return
    proved = verdict(program.layers, program.lowered.bounded_passes, program.given_format)
    print(f"{program.name} compiles for {chosen.name}: {proved}{against_model(program)}")
    print_warnings(program, fmt)


def _print_json(
    model: str,
    target: str,
    exact: bool | None,
    quantized_to: str = "",
    distance: FloatDistance | None = None,
    problems: tuple[Problem, ...] = (),
) -> None:
    """One object on stdout: what was checked, and every problem.

    ok            whether there are no problems
    exact         whether the artifacts would be exact, or bounded; null where there would be none
    exact_to      what "exact" means: "the file", or the format by which --fmt made another model of it
    quantized_to  that format; null for a model that is compiled as it is
    float_model   how far that is from the float model, where calibration data tell; else null
    """
    from pefslc.reports.layer_report import exact_to

    found = [problem.to_json() for problem in problems]
    measured = None if distance is None else distance.to_json()
    meant = {
        "exact": exact,
        "exact_to": None if exact is None else exact_to(quantized_to),
        "quantized_to": quantized_to or None,
        "float_model": measured,
    }
    print(json.dumps({"model": model, "target": target, "ok": not found, **meant, "problems": found}, indent=2))
