"""`pefslc formats MODEL`: a file for --formats, with what the model has or what --fmt makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.completion import complete_target
from pefslc.console.options import (
    calibration_options,
    chosen_format_option,
    data_limit_option,
    model_argument,
    require_data_and_format,
    shape_options,
    target_limits,
)
from pefslc.console.target_command import TargetCommand, chosen_target, given_options

if TYPE_CHECKING:
    from pefslc.numeric.choose_format import AutoFormat
    from pefslc.numeric.format import FixedPoint

__all__ = ["write_formats"]

_FIRST_LINE = "Formats by name, for --formats. `pefslc explain formats-by-name` tells what may stand here."


@click.command(
    "formats",
    cls=TargetCommand,
    loads="pefslc.driver.compiler",
    short_help="write the formats of a model, by name, as a file for --formats",
)
@model_argument
@click.option(
    "--target",
    metavar="NAME",
    shell_complete=complete_target,
    help="choose formats whose sums fit the accumulator of this target  [default: sums of 64 bits]",
)
@chosen_format_option
@calibration_options
@shape_options
@data_limit_option
@click.option("-o", "--output", type=click.Path(), metavar="FILE.toml", help="write here  [default: stdout]")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def write_formats(
    model: str,
    target: str | None,
    fmt: FixedPoint | AutoFormat | None,
    calibrate: str | None,
    calibration: str,
    batch: int | None,
    input_shapes: dict[str, tuple[int, ...]],
    data_limit: float,
    output: str | None,
    debug: bool,
) -> None:
    """Write the formats of MODEL by name: its own where it is quantized, else those that --fmt gives to it."""
    del debug  # read by cli.run
    from pefslc.analysis.limits import TargetLimits
    from pefslc.targets.protocol import TargetOptions

    require_data_and_format(fmt, calibrate, requantize=False)
    if target is None:
        for name in given_options(click.get_current_context()):
            raise click.UsageError(f"--{name.replace('_', '-')} needs --target")
        limits = TargetLimits(64, "the interpreter")
    else:
        limits = target_limits(chosen_target(target), TargetOptions())
    from pefslc.console.progress import progress_bar
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.compiler import lower_model
    from pefslc.driver.format_file import toml_text
    from pefslc.driver.formats_of_model import formats_of
    from pefslc.files.staging import require_replaceable, write_file
    from pefslc.frontend import GivenShapes

    if output is not None:
        require_replaceable(Path(output), "file of this command's", _is_ours, "give another path with -o")
    with progress_bar(quiet=False) as progress:
        lowered = lower_model(
            model,
            limits,
            fmt=fmt,
            calibrate=calibrate,
            calibration=calibration,
            progress=progress,
            given=GivenShapes(batch, input_shapes),
            data_limit=data_limit,
        )
    native = lowered.reference.uniform_format
    if limits.saturates(native):
        raise CompileError(
            Code.FORMATS,
            f"--fmt {native} is the native arithmetic of --target {target}, which has one format of words for all",
            at=lowered.reference.name,
            hint=f"compile with --fmt {native} itself; leave out --target for the formats of the exact model",
        )
    tables, others = formats_of(lowered.float_model or lowered.reference, lowered.reference)
    text = toml_text(tables, [_FIRST_LINE, *others])
    if output is None:
        print(text, end="")
    else:
        write_file(Path(output), text.encode())


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().decode(errors="replace").strip() == f"# {_FIRST_LINE}"
