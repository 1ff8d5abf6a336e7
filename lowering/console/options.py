"""Options that several commands share, and the checks that make a wrong one a usage error."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pefslc.console.completion import complete_target
from pefslc.console.usage import usage_error
from pefslc.files.reading import alike_name

if TYPE_CHECKING:
    from pefslc.analysis.limits import TargetLimits
    from pefslc.numeric.choose_format import AutoFormat
    from pefslc.numeric.format import FixedPoint
    from pefslc.targets.protocol import Target, TargetOptions

__all__ = [
    "calibration_options",
    "chosen_format_option",
    "data_limit_option",
    "format_argument",
    "input_file",
    "input_format_option",
    "json_option",
    "model_argument",
    "no_such_file",
    "plugin_files",
    "require_data_and_format",
    "require_pass",
    "shape_options",
    "target_limits",
    "target_option",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def input_file(what: str, commands: tuple[str, ...] = ()) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that demands a file: what is not there is a usage error, not a refusal.

    what      "a model", for the message
    commands  names that the user may have misspelt in its place
    """

    def callback(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
        if value is None or os.path.isfile(value):
            return value
        if os.path.isdir(value):
            raise click.UsageError(f"{value!r} is a folder, not {what}", ctx)
        if os.path.exists(value):
            raise click.UsageError(f"{value!r} is a device or a pipe, not {what}: give a file", ctx)
        raise no_such_file(value, ctx, commands)

    return callback


def no_such_file(value: str, ctx: click.Context, commands: tuple[str, ...] = ()) -> click.UsageError:
    """The usage error for a file that is not there, with what may have been meant by its name.

    commands  names that the user may have misspelt in its place
    """
    message = f"no such file: {value!r}"
    if close := difflib.get_close_matches(value, commands, n=1):
        return click.UsageError(f"{message} (did you mean the command {close[0]!r}?)", ctx)
    try:
        meant = alike_name(Path(value))
    except OSError:
        meant = None
    return click.UsageError(f"{message}\n  help: did you mean {str(meant)!r}?" if meant else message, ctx)


def format_option(ctx: click.Context, _: click.Parameter, value: str | None) -> FixedPoint | AutoFormat | None:
    """A callback: Qm.n or UQm.n, or auto:B."""
    if value is None:
        return None
    from pefslc.numeric.choose_format import AutoFormat
    from pefslc.numeric.format import FixedPoint

    try:
        return AutoFormat.parse(value) or FixedPoint.parse(value)
    except ValueError as e:
        example = FixedPoint.parse("Q2.3").describe()
        raise click.UsageError(f"--fmt: {e}; for example {example}", ctx) from None


def input_shapes(ctx: click.Context, _: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """A callback: NAME=1,3,32,32, any number of times."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, equals, sizes = value.rpartition("=")  # a tensor's name may hold anything
        if equals and name in shapes:
            raise click.UsageError(f"--input-shape: a second shape for {name!r}: {value!r}; give one", ctx)
        try:
            shapes[name] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            equals = ""
        if not equals:
            raise click.UsageError(f"--input-shape: {value!r} is not NAME=SIZES; for example x=1,3,32,32", ctx)
    return shapes


def input_formats(
    ctx: click.Context, _: click.Parameter, values: tuple[str, ...]
) -> FixedPoint | dict[str, FixedPoint] | None:
    """A callback: Qm.n for every input, or NAME=Qm.n, any number of times or with commas between."""
    if not values:
        return None
    from pefslc.numeric.format import FixedPoint

    formats: dict[str, FixedPoint] = {}
    plain: list[FixedPoint] = []
    for text in (part for value in values for part in value.split(",")):
        name, equals, fmt = text.rpartition("=")  # a tensor's name may hold anything but a comma
        try:
            parsed = FixedPoint.parse(fmt)
        except ValueError as e:
            raise click.UsageError(f"--input-fmt: {e}; for example UQ0.8, or x=UQ0.8", ctx) from None
        if equals and name in formats:
            raise click.UsageError(f"--input-fmt: a second format for {name!r}: {text!r}; give one", ctx)
        if equals:
            formats[name] = parsed
        else:
            plain.append(parsed)
    if len(plain) + bool(formats) > 1:
        raise click.UsageError("--input-fmt: one format for every input, or NAME=Qm.n for each", ctx)
    return formats or plain[0]


def input_format_option(function: _Function) -> _Function:
    """--input-fmt."""
    return click.option(
        "--input-fmt",
        multiple=True,
        callback=input_formats,
        metavar="[NAME=]Qm.n",
        help="the format in which the host gives an input, such as x=UQ0.8 or, for all, UQ0.8; an input without a "
        "quantizer takes it as its own",
    )(function)


def shape_options(function: _Function) -> _Function:
    """--batch, --input-shape."""
    help_text = "rows of a run: an open batch of the file, or another one than it says"
    batch = click.option("--batch", type=click.IntRange(1), metavar="N", help=help_text)
    shape = click.option(
        "--input-shape",
        "input_shapes",
        multiple=True,
        callback=input_shapes,
        metavar="NAME=SIZES",
        help="the shape of an input, if the file does not say it: x=1,3,32,32",
    )
    return batch(shape(function))


def data_limit_option(function: _Function) -> _Function:
    """--data-limit."""
    return click.option(
        "--data-limit",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        metavar="GIB",
        help="the largest size of weight files beside the model  [default: 1]",
    )(function)


def named_format_option(ctx: click.Context, parameter: click.Parameter, value: str | None) -> FixedPoint | None:
    """A callback: Qm.n or UQm.n."""
    from pefslc.numeric.choose_format import AutoFormat

    fmt = format_option(ctx, parameter, value)
    if isinstance(fmt, AutoFormat):
        raise click.UsageError(f"--fmt: {fmt} chooses formats at a compile; here name one, for example Q2.3", ctx)
    return fmt


COMMAND_NAMES = (
    "compile", "inspect", "check", "formats", "report", "run", "deploy", "disassemble", "fewshot", "opt", "view",
    "passes", "targets", "schema", "doctor", "explain", "help", "completion",
)  # fmt: skip


def model_argument(function: _Function) -> _Function:
    """The model file."""
    return click.argument("model", type=click.Path(), callback=input_file("a model", COMMAND_NAMES))(function)


def format_argument(function: _Function) -> _Function:
    """--fmt, of a format that has a name."""
    help_text = "check that the model has this format, and give it to what is not quantized"
    return click.option("--fmt", callback=named_format_option, metavar="Qm.n", help=help_text)(function)


def chosen_format_option(function: _Function) -> _Function:
    """--fmt, of a format or of a width."""
    return click.option(
        "--fmt",
        callback=format_option,
        metavar="Qm.n|auto:B",
        help="check that the model has this format; a float model, or an input without one, is quantized to it; "
        "auto:8 takes 8 bits and chooses each format from data",
    )(function)


def calibration_options(function: _Function) -> _Function:
    """--calibrate, --calibration."""
    data = click.option(
        "--calibrate",
        type=click.Path(),
        callback=input_file("an .npz file"),
        metavar="DATA.npz",
        help="sample inputs: --fmt auto needs them, Q8.8 on the TCU becomes finer by them; they give a report of "
        "the error, and with `labels` of the accuracy",
    )
    method = click.option(
        "--calibration",
        type=click.Choice(("mse", "percentile", "minmax")),
        default="mse",
        help="how --fmt auto chooses  [default: mse]",
    )
    return data(method(function))


def require_data_and_format(
    fmt: FixedPoint | AutoFormat | None, calibrate: str | None, requantize: bool, formats: str | None = None
) -> None:
    """Usage error for --fmt auto without data, and for --requantize without a format, or with several."""
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.compile_options import check_requantize
    from pefslc.numeric.choose_format import AutoFormat

    try:
        check_requantize(requantize, fmt, formats)
    except CompileError as e:
        raise usage_error(e) from None
    if isinstance(fmt, AutoFormat) and calibrate is None:
        raise click.UsageError(f"--fmt {fmt} chooses formats from data: give --calibrate DATA.npz, or name a format")


def require_max_error(max_error: float | None, verifies: bool) -> None:
    """Usage error for a largest error that is none, or without inputs on which it is measured."""
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.compile_options import check_max_error

    try:
        check_max_error(max_error, verifies)
    except CompileError as e:
        raise usage_error(e) from None


def target_limits(target: Target, options: TargetOptions) -> TargetLimits:
    """The target's limits under these options; what it finds wrong with them is a usage error."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError

    try:
        return target.limits(options)
    except CompileError as e:
        if any(p.code is Code.TARGET_FAILED for p in e.problems):
            raise  # a fault of the target's
        raise usage_error(e) from None


def target_option(function: _Function) -> _Function:
    """--target, which a compile must have."""
    return click.option(
        "--target",
        required=True,
        metavar="NAME",
        shell_complete=complete_target,
        help="c, tensil, an installed one (see `pefslc targets`), or FILE.py:Class",
    )(function)


def json_option(function: _Function) -> _Function:
    """--json."""
    help_text = "print one JSON object instead, for tools; `pefslc schema` describes it"
    return click.option("--json", "as_json", is_flag=True, help=help_text)(function)


def plugin_files(names: tuple[str, ...]) -> None:
    """Usage error for a plugin file that is not there."""
    for name in names:
        if name.endswith(".py") and not os.path.isfile(name):
            raise click.UsageError(f"no such plugin file: {name!r}")


def require_pass(name: str, passes: list[str], target: str, stages: tuple[str, ...]) -> None:
    """Usage error for what is neither a pass that runs nor a stage that the target reports."""
    known = [*dict.fromkeys(passes), *(f"{target}-{stage}" for stage in stages)]
    if name not in ("all", *known, *stages):
        raise click.UsageError(f"no pass or stage {name!r}; those that run: all, {', '.join(known)}")
