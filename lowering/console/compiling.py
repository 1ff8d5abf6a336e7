"""`pefslc MODEL`: compile, verify, write, summarize."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.compile_request import CompileRequest, compile_request
from pefslc.console.options import (
    input_file,
    json_option,
    require_max_error,
    require_pass,
)
from pefslc.console.target_command import TargetCommand

if TYPE_CHECKING:
    from pefslc.artifacts.costs import CostReport
    from pefslc.driver.program import Program

__all__ = ["compile_model"]


@click.command(
    "compile",
    cls=TargetCommand,
    loads="pefslc.driver.compiler",
    short_help="compile a model; the word may be left out",
)
@compile_request
@click.option("-o", "--output", type=click.Path(), default=".", metavar="DIR", help="where to write  [default: here]")
@click.option(
    "--verify",
    "inputs",
    type=click.Path(),
    callback=input_file("an .npz file"),
    metavar="INPUTS.npz",
    help="run these inputs through the model and the compiled program: the integers must be equal; for a float model, "
    "measure the error, too",
)
@click.option(
    "--max-error",
    type=float,
    metavar="E",
    help="with --verify, for a float model: fail if an output is off by more than E",
)
@click.option("--costs", is_flag=True, help="print where modelled cycles, bytes and memory go, layer by layer")
@click.option("--report", type=click.Path(), metavar="FILE.json", help="write what --costs prints as JSON")
@click.option(
    "--print-ir-after", metavar="NAME|all", help="print the graph after this pass, or this stage of the target"
)
@click.option(
    "--dump-dir",
    type=click.Path(),
    metavar="DIR",
    help="write the graph after each pass, also for Netron, and stages",
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="print errors only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def compile_model(
    request: CompileRequest,
    output: str,
    inputs: str | None,
    max_error: float | None,
    costs: bool,
    report: str | None,
    print_ir_after: str | None,
    dump_dir: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Compile MODEL, an ONNX file, for one target."""
    del debug  # read by cli.run
    start = time.perf_counter()
    limits, chosen = request.checked_limits(), request.chosen
    if as_json and print_ir_after is not None:
        raise click.UsageError("--json prints one object, and --print-ir-after text: --dump-dir DIR writes files")
    if not output:
        raise click.UsageError("-o '' is no folder; -o . is this one", click.get_current_context())
    require_max_error(max_error, inputs is not None)
    from pefslc.console.dump import Watcher
    from pefslc.console.json_output import compiled_json, print_json, uncompiled_json
    from pefslc.console.progress import progress_bar
    from pefslc.diagnostics.errors import CompileError
    from pefslc.passes.pipeline import SAID_BY_USER, pipeline
    from pefslc.targets.protocol import stages_of
    from pefslc.verification.outcome import nothing_to_measure

    if report is not None:
        _check_report(Path(report), Path(output))
    loaded = request.load_plugins()
    if print_ir_after is not None:
        nothing_asked = request.fmt is None and request.formats is None and request.input_fmt is None
        asked = () if nothing_asked else SAID_BY_USER
        passes = ["import", *asked, *(p.name for p in pipeline(limits, plugins=loaded))]
        require_pass(print_ir_after, passes, chosen.name, stages_of(chosen))
    watcher = Watcher(print_ir_after, Path(dump_dir) if dump_dir else None, chosen.name)
    watches = bool(print_ir_after or dump_dir)
    program = verification = None
    written: tuple[Path, ...] = ()
    try:
        with progress_bar(quiet=quiet) as progress:
            program = request.compile(
                loaded, watcher if watches else None, watcher.stage if watches else None, progress
            )
            if inputs is not None:
                if max_error is not None and program.lowered.before_format is None:
                    raise nothing_to_measure()
                verification = program.verify(inputs)
                verification.require(max_error)
        found = _costs(program) if costs or report is not None else None
        if report is not None:
            _check_report(Path(report), Path(output), program)
        written = program.save(output)
        if found is not None and report is not None:
            from pefslc.console.costs import write_costs

            write_costs(found, Path(report))
    except CompileError as e:
        if not as_json:
            raise
        if program is None:
            print_json(uncompiled_json(request.model, chosen.name, e.problems))
        else:
            print_json(compiled_json(request.model, program, verification, None, written, e.problems))
        raise click.exceptions.Exit(1) from None
    if as_json:
        print_json(compiled_json(request.model, program, verification, found if costs else None, written))
        return
    if not quiet:
        from pefslc.console.costs import print_costs
        from pefslc.console.float_distance import print_warnings
        from pefslc.console.format_changes import print_format_changes
        from pefslc.console.post_training import print_post_training
        from pefslc.console.summary import print_summary

        if found is not None and costs:
            print_costs(found)
        if request.requantize and program.lowered.float_model is None:
            print_format_changes(program.format_changes)
        if program.post_training is not None:
            print_post_training(program.post_training, native=program.emission.native is not None)
        print_summary(program, verification, written, request.everywhere, time.perf_counter() - start)
        print_warnings(program, request.everywhere, verification)


def _check_report(report: Path, output: Path, program: Program | None = None) -> None:
    """Demand that the report can be written and replaces at most an earlier one, and no file of `program`, once known.

    Before the compile, so that nothing is written where the report cannot be; and after it, as files may have come.
    """
    from pefslc.artifacts.costs import is_cost_report
    from pefslc.console.replacing import require_writable
    from pefslc.files.staging import in_the_way, require_replaceable

    another = "give another path with --report"
    require_replaceable(report, "earlier report", lambda path: is_cost_report(path.read_bytes()), another)
    require_writable(report, "--report", made=output)
    if program is not None and report.resolve() in {(output / name).resolve() for name in program.file_names}:
        raise in_the_way(report, "is a file that this compile writes", another)


def _costs(program: Program) -> CostReport:
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote

    found = program.costs
    if found is None:
        raise CompileError(
            Code.WRONG_OPTION,
            f"target {quote(program.target.name)} does not say what its programs cost",
            hint="leave --costs and --report out",
        )
    return found
