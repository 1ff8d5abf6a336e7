"""What a compile is asked for on the command line: the options of every command that compiles, as one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.options import (
    calibration_options,
    chosen_format_option,
    data_limit_option,
    input_file,
    input_format_option,
    model_argument,
    plugin_files,
    require_data_and_format,
    shape_options,
    target_limits,
    target_option,
)
from pefslc.console.target_command import chosen_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pefslc.analysis.limits import TargetLimits
    from pefslc.diagnostics.progress import Progress
    from pefslc.driver.compiler import Observer, StageObserver
    from pefslc.driver.program import Program
    from pefslc.numeric.choose_format import AutoFormat
    from pefslc.numeric.format import FixedPoint
    from pefslc.passes.manager import Pass
    from pefslc.targets.protocol import Target

__all__ = ["CompileRequest", "compile_request"]


@dataclass(frozen=True)
class CompileRequest:
    """A model, a target, and how the one is compiled for the other: by the names of the options."""

    model: str
    target: str
    fmt: FixedPoint | AutoFormat | None
    formats: str | None
    calibrate: str | None
    calibration: str
    requantize: bool
    input_fmt: FixedPoint | dict[str, FixedPoint] | None
    batch: int | None
    input_shapes: dict[str, tuple[int, ...]]
    data_limit: float
    allow_overflow: bool
    plugins: tuple[str, ...]
    check_passes: bool
    require_exact: bool

    @cached_property
    def chosen(self) -> Target:
        """The target, with its own options. Usage error for one that is none, or for options that it has not."""
        return chosen_target(self.target)

    def checked_limits(self) -> TargetLimits:
        """The target's limits; whatever is wrong with the options together is a usage error."""
        from pefslc.targets.protocol import TargetOptions

        limits = target_limits(self.chosen, TargetOptions(allow_overflow=self.allow_overflow))
        plugin_files(self.plugins)
        require_data_and_format(self.fmt, self.calibrate, self.requantize, self.formats)
        return limits

    @property
    def everywhere(self) -> FixedPoint | AutoFormat | None:
        """The format that --fmt gives to the whole model: none beside formats by name."""
        return self.fmt if self.formats is None else None

    def load_plugins(self) -> Sequence[Pass]:
        from pefslc.driver.plugins import load_plugins

        return load_plugins(self.plugins, check=self.check_passes or self.require_exact)

    def compile(
        self,
        plugins: Sequence[Pass] | None = None,
        observe: Observer | None = None,
        observe_target: StageObserver | None = None,
        progress: Progress | None = None,
    ) -> Program:
        """The compiled program. Raises CompileError.

        plugins  that are loaded already
        """
        import pefslc

        return pefslc.compile(
            self.model,
            target=self.chosen,
            fmt=self.fmt,
            formats=self.formats,
            calibrate=self.calibrate,
            calibration=self.calibration,
            requantize=self.requantize,
            input_fmt=self.input_fmt,
            batch=self.batch,
            input_shapes=self.input_shapes,
            data_limit=self.data_limit,
            plugins=self.load_plugins() if plugins is None else plugins,
            allow_overflow=self.allow_overflow,
            check_passes=self.check_passes,
            require_exact=self.require_exact,
            observe=observe,
            observe_target=observe_target,
            progress=progress,
        )


def compile_request(function: Callable[..., None]) -> Callable[..., None]:
    """MODEL, --target, and what every compile depends on: the function's first argument is a `CompileRequest`."""

    @wraps(function)
    def with_request(**given: Any) -> None:
        request = CompileRequest(**{field.name: given.pop(field.name) for field in fields(CompileRequest)})
        function(request, **given)

    wrapped: Callable[..., None] = with_request
    decorators = [
        model_argument,
        target_option,
        chosen_format_option,
        click.option(
            "--formats",
            type=click.Path(),
            callback=input_file("a file of formats"),
            metavar="FILE.toml",
            help="formats by name, of layers, tensors and kinds of layers: checked, or given to a float model "
            "(`pefslc formats` writes such a file)",
        ),
        calibration_options,
        click.option(
            "--requantize", is_flag=True, help="give a quantized model the format of --fmt, and show what that changes"
        ),
        input_format_option,
        shape_options,
        data_limit_option,
        click.option("--allow-overflow", is_flag=True, help="accept sums that may not fit the accumulator"),
        click.option(
            "--plugin",
            "plugins",
            type=click.Path(),
            multiple=True,
            metavar="FILE.py",
            help="also run the passes in this file",
        ),
        click.option("--check-passes", is_flag=True, help="run the graph before and after each pass, and compare"),
        click.option("--require-exact", is_flag=True, help="refuse a program that is not exact, and list what differs"),
    ]
    for decorator in reversed(decorators):
        wrapped = decorator(wrapped)
    return wrapped
