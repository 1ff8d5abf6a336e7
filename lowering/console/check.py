"""`pefslc check MODEL`: everything a compile does, except writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pefslc.console.options import chosen_target, model_argument, plugin_files, target_limits, target_options

if TYPE_CHECKING:
    from pefslc.numeric.format import FixedPoint

__all__ = ["check"]


@click.command("check", short_help="whether a model compiles for a target; nothing is written")
@model_argument
@click.option("--target", required=True, metavar="NAME", help="c, tensil, or an installed one: see `pefslc targets`")
@target_options
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def check(
    model: str,
    target: str,
    fmt: FixedPoint | None,
    arch: str | None,
    caller_arena: bool,
    allow_overflow: bool,
    plugins: tuple[str, ...],
    check_passes: bool,
    debug: bool,
) -> None:
    """Tell whether MODEL compiles for the target, with every reason where it does not."""
    del debug  # read by cli.run
    from pefslc.targets.protocol import TargetOptions

    chosen = chosen_target(target)
    target_limits(chosen, TargetOptions(arch, caller_arena, allow_overflow))
    plugin_files(plugins)
    import pefslc

    program = pefslc.compile(
        model,
        target=chosen,
        fmt=fmt,
        arch=arch,
        caller_arena=caller_arena,
        plugins=plugins,
        allow_overflow=allow_overflow,
        check_passes=check_passes,
    )
    from pefslc.report import verdict

    print(f"{program.name} compiles for {chosen.name}: {verdict(program.layers, program.lowered.bounded_passes)}")
