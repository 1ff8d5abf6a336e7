"""`pefslc opt GRAPH --pass NAME`: passes on a graph's text, one by one; text out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.completion import complete_pass, complete_target
from pefslc.console.options import format_argument, input_format_option, no_such_file, target_limits
from pefslc.console.target_command import TargetCommand, chosen_target, given_options
from pefslc.console.usage import usage_error
from pefslc.files.staging import in_the_way, require_replaceable

if TYPE_CHECKING:
    from pefslc.driver.named_passes import PassRun
    from pefslc.numeric.format import FixedPoint

__all__ = ["rewrite_graph"]

_FIRST_WORD = b"graph "  # of every text of a graph


@click.command(
    "opt",
    cls=TargetCommand,
    loads="pefslc.driver.named_passes",
    short_help="run single passes on a graph's text (.ir) or on a model",
)
@click.argument("model", metavar="GRAPH", type=click.Path(allow_dash=True))
@click.option(
    "--pass",
    "passes",
    multiple=True,
    metavar="NAME|FILE.py",
    shell_complete=complete_pass,
    help="run this pass; several run one after the other",
)
@click.option("-o", "--output", type=click.Path(), metavar="FILE.ir", help="write the text here  [default: stdout]")
@click.option("--verify", is_flag=True, help="run the graph before and after each pass on random inputs")
@click.option("--short", is_flag=True, help="leave large constants out: for reading only")
@click.option(
    "--target",
    metavar="NAME",
    shell_complete=complete_target,
    help="the target whose limits the passes see  [default: sums of 64 bits]",
)
@format_argument
@input_format_option
@click.option("-q", "--quiet", is_flag=True, help="print the graph and errors only")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def rewrite_graph(
    model: str,
    passes: tuple[str, ...],
    output: str | None,
    verify: bool,
    short: bool,
    target: str | None,
    fmt: FixedPoint | None,
    input_fmt: FixedPoint | dict[str, FixedPoint] | None,
    quiet: bool,
    debug: bool,
) -> None:
    """Run passes on GRAPH, the text of a graph as --dump-dir writes it, an .onnx file, or - for stdin.

    The graph is checked before the first pass and after each. What the passes did is said on stderr.
    """
    del debug  # read by cli.run
    from pefslc.analysis.limits import TargetLimits
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.named_passes import find_passes, legal_graph, read_graph, run_one_by_one
    from pefslc.files.staging import write_file
    from pefslc.ir.text import print_graph
    from pefslc.targets.protocol import TargetOptions

    context = click.get_current_context()
    if model != "-" and not Path(model).is_file():
        raise no_such_file(model, context)
    if target is None:
        for name in given_options(context):
            raise click.UsageError(f"--{name.replace('_', '-')} needs --target")
        limits = TargetLimits(64, "the interpreter")
    else:
        limits = target_limits(chosen_target(target), TargetOptions())
    try:
        found = find_passes(passes, limits, fmt, input_fmt)
    except CompileError as e:
        if e.problems[0].code is Code.NO_SUCH_PLUGIN:
            raise usage_error(e) from None
        raise
    if output is not None:
        _require_replaceable(Path(output), None if model == "-" else Path(model))
    before = legal_graph(sys.stdin.read()) if model == "-" else read_graph(Path(model))
    after, runs = run_one_by_one(before, found, compare=verify)
    if not quiet:
        for run in runs:
            print(_line(run), file=sys.stderr)
    text = print_graph(after, data=not short)
    if output is None:
        print(text, end="")
    else:
        write_file(Path(output), text.encode())
    wrong = [run for run in runs if run.broken]
    if wrong:
        raise CompileError(
            Code.DIFFERS,
            f"pass {wrong[0].record.name!r} says it is exact, and outputs differ",
            hint="correct the pass, or let it promise less: Exactness.BOUNDED",
        )


def _require_replaceable(output: Path, source: Path | None) -> None:
    """Only an earlier result is replaced: the text of a graph that is not the one that is read."""
    another = "give another path with -o"
    if source is not None and output.is_file() and not output.is_symlink() and output.samefile(source):
        raise in_the_way(output, "holds the graph that is read", another)
    require_replaceable(output, "text of a graph", _is_graph_text, another)


def _is_graph_text(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_FIRST_WORD)) == _FIRST_WORD


def _line(run: PassRun) -> str:
    record = run.record
    words = f"{record.name} ({record.exactness.value}): {'changed' if record.changed else 'unchanged'}"
    for name, found in (run.differences or {}).items():
        equal = f"{found.count - found.differing} of {found.count} values of {name!r} equal on random inputs"
        words += f"; {equal}" + (f", off by at most {found.largest:g}" if found.differing else "")
    return words
