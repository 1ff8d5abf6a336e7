"""`pefslc check MODEL`: everything a compile does, except writing."""

from __future__ import annotations

import click

from pefslc.console.compile_request import CompileRequest, compile_request
from pefslc.console.options import json_option
from pefslc.console.target_command import TargetCommand

__all__ = ["check"]


@click.command(
    "check",
    cls=TargetCommand,
    loads="pefslc.driver.compiler",
    short_help="whether a model compiles for a target; nothing is written",
)
@compile_request
@json_option
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def check(
    request: CompileRequest,
    as_json: bool,
    debug: bool,
) -> None:
    """Tell whether MODEL compiles for the target, with every reason where it does not."""
    del debug  # read by cli.run
    request.checked_limits()
    from pefslc.console.float_distance import against_model, print_warnings
    from pefslc.console.json_output import outcome_json, print_json, refused_json
    from pefslc.diagnostics.errors import CompileError

    try:
        program = request.compile()
    except CompileError as e:
        if not as_json:
            raise
        print_json(refused_json(request.model, request.chosen.name, e.problems))
        raise click.exceptions.Exit(1) from None
    if as_json:
        print_json(outcome_json(request.model, program))
        return
    proved = program.verdict
    print(f"{program.name} compiles for {request.chosen.name}: {proved}{against_model(program)}")
    for caution in program.emission.cautions:
        print(caution)
    print_warnings(program, request.everywhere)
