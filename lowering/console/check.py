"""`pefslc check MODEL`: everything a compile does, except writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pefslc.console.options import (
    compile_options,
    json_option,
    model_argument,
    plugin_files,
    require_data_and_format,
    target_limits,
    target_option,
)
from pefslc.console.target_command import TargetCommand, chosen_target

if TYPE_CHECKING:
    from pefslc.numeric.choose_format import AutoFormat
    from pefslc.numeric.format import FixedPoint

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
@json_option
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def check(
    model: str,
    target: str,
    fmt: FixedPoint | AutoFormat | None,
    formats: str | None,
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
    require_data_and_format(fmt, calibrate, requantize, formats)
    import pefslc
    from pefslc.console.float_distance import against_model, print_warnings
    from pefslc.console.json_output import outcome_json, print_json, refused_json
    from pefslc.diagnostics.errors import CompileError
    from pefslc.reports.layer_report import verdict

    try:
        program = pefslc.compile(
            model,
            target=chosen,
            fmt=fmt,
            formats=formats,
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
        print_json(refused_json(model, chosen.name, e.problems))
        raise click.exceptions.Exit(1) from None
    if as_json:
        print_json(outcome_json(model, program))
        return
    proved = verdict(program.layers, program.lowered.bounded_passes, program.given_format)
    print(f"{program.name} compiles for {chosen.name}: {proved}{against_model(program)}")
    print_warnings(program, fmt if formats is None else None)
