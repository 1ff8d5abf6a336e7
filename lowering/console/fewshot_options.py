"""What the commands of few-shot systems share: how a system is opened, how pictures are found and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pefslc.fewshot.system.system import FewShotSystem

__all__ = [
    "build_and_state", "debug_option", "engine_option", "open_system", "picture_files", "quiet_option", "read_all",
    "threshold_option",
]  # fmt: skip

_Function = TypeVar("_Function", bound=Callable[..., Any])

AUTO = "auto"
_MOST_PROBLEMS = 20  # told at once

debug_option = click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="print errors only")
engine_option = click.option(
    "--engine",
    type=click.Choice((AUTO, "c", "tensil", "float")),
    default=AUTO,
    help="c, or the TCU simulated (tensil), with the same codes; float: the ONNX in float64  [default: c if there is a "
    "compiler, else tensil]",
)


def build_and_state(function: _Function) -> _Function:
    """BUILD, the folder of a system; STATE, a file."""
    build = click.argument("build", type=click.Path())
    return build(click.argument("state", type=click.Path())(function))


def threshold_option(ctx: click.Context, _: click.Parameter, value: str | None) -> Fraction | None:
    """A callback: a decimal or a fraction, exactly."""
    from pefslc.diagnostics.errors import CompileError
    from pefslc.fewshot.head.scores import parse_threshold

    if value is None:
        return None
    try:
        return parse_threshold(value)
    except CompileError as e:
        raise click.UsageError(f"--threshold: {value!r} is no number; {e.problems[0].hint}", ctx) from None


def open_system(build: str, engine: str, *, quiet: bool = False) -> FewShotSystem:
    """The system in a folder. Without a C compiler the TCU is simulated, where the system was built for one."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.fewshot.system.system import FewShotSystem

    try:
        return FewShotSystem.open(build, "c" if engine == AUTO else engine)
    except CompileError as e:
        if engine != AUTO or e.problems[0].code is not Code.NO_C_COMPILER:
            raise
        try:
            system = FewShotSystem.open(build, "tensil")
        except CompileError:
            raise e from None
    if not quiet:
        click.echo("note: no C compiler: the TCU is simulated, slower and with the same codes", err=True)
    return system


def picture_files(given: Sequence[str]) -> list[Path]:
    """The picture files that the user names, each by itself or by its folder. Raises CompileError for empty folders."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote
    from pefslc.fewshot.data.pictures import PICTURE_SUFFIXES, pictures_in

    found: list[Path] = []
    for path in map(Path, given):
        inside = pictures_in(path) if path.is_dir() else [path]
        if not inside:
            raise CompileError(
                Code.NO_SHOTS,
                f"there are no pictures in {quote(path)}",
                hint=f"pictures end in {', '.join(PICTURE_SUFFIXES)}",
            )
        found += inside
    return found


def read_all(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """The pictures, uint8 [H, W, 3] each. Raises CompileError with all that cannot be read."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, Problem
    from pefslc.fewshot.data.pictures import decode_picture

    pictures, problems = [], list[Problem]()
    for path in paths:
        try:
            pictures.append(decode_picture(path))
        except CompileError as e:
            problems += e.problems
            if e.problems[0].code not in (Code.PICTURE, Code.NO_SUCH_FILE) or len(problems) >= _MOST_PROBLEMS:
                break
    if problems:
        raise CompileError.of(problems)
    return pictures
