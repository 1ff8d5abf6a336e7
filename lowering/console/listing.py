"""`pefslc passes`, `pefslc targets` and `pefslc targets NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pefslc.console.completion import complete_target
from pefslc.console.loading import LoadingCommand
from pefslc.console.options import target_limits
from pefslc.console.target_command import TargetCommand, chosen_target, given_options, shown_option

if TYPE_CHECKING:
    from pefslc.targets.options import Option

__all__ = ["list_passes", "list_targets"]


@click.command(
    "passes",
    cls=LoadingCommand,
    loads="pefslc.passes.pipeline",
    short_help="the passes, in the order in which they run",
)
def list_passes() -> None:
    """List the passes in the order in which they run."""
    from pefslc.analysis.limits import TargetLimits
    from pefslc.console.tables import wrapped_table
    from pefslc.driver.plugins import installed_passes
    from pefslc.numeric.format import FixedPoint
    from pefslc.passes.pipeline import SAID_BY_USER, pipeline

    rows = [
        (str(order), p.name, p.level.value, p.exactness.value, _what_it_does(p))
        for order, p in enumerate(pipeline(TargetLimits(32, "the accumulator"), fmt=FixedPoint(2, 3)), 1)
    ]
    print(wrapped_table(("", "pass", "level", "promise", "what it does"), rows))
    print("\nOnly with --fmt or --input-fmt:")
    for name in SAID_BY_USER:
        print(f"  {name}")
    print("With --requantize, change-formats runs in place of check-format.")
    print("A plugin's passes run last on their level.")
    for entry in installed_passes():
        print(f"installed: --plugin {entry.name} ({entry.value})")


@click.command(
    "targets",
    cls=TargetCommand,
    loads="pefslc.passes.pipeline",
    short_help="the targets; with a name, its options and limits",
)
@click.argument("name", required=False, shell_complete=complete_target)
def list_targets(name: str | None) -> None:
    """List what --target takes; with a NAME, that target's options and limits, under the options that are given."""
    if name is not None:
        _show_target(name)
        return
    for option in given_options(click.get_current_context()):
        raise click.UsageError(f"--{option.replace('_', '-')} needs the name of a target")
    from pefslc.console.tables import wrapped_table
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.target_registry import find_target, target_names
    from pefslc.driver.user_target import inner_target
    from pefslc.targets.options import options_of

    rows, values = [], []
    for known in target_names():
        try:
            target = find_target(known)
            rows.append((known, target.summary))
            values += [f"{o.flag} of {known}: {_values(o)}" for o in options_of(inner_target(target)) if o.known]
        except CompileError as e:
            rows.append((known, str(e)))
    print(wrapped_table(("target", "what it is"), rows))
    print("\n" + "\n".join([*values, "`pefslc targets NAME` shows a target's options and limits."]))


def _show_target(name: str) -> None:
    from pefslc.console.tables import wrapped_table
    from pefslc.driver.user_target import inner_target
    from pefslc.targets.options import options_of
    from pefslc.targets.protocol import TargetOptions, stages_of

    target = chosen_target(name)
    inner = inner_target(target)
    limits = target_limits(target, TargetOptions())
    print(f"{target.name}: {target.summary}\n")
    print(f"sums of at most {limits.accumulator_bits} bits: {limits.accumulator_name}")
    if limits.native_format is not None:
        print(f"native arithmetic, for float models: {limits.native_format}")
    if stages := stages_of(target):
        print(f"stages, for --print-ir-after and --dump-dir: {', '.join(stages)}")
    options = options_of(inner)
    if not options:
        print("no options of its own")
        return
    rows = [(shown_option(o), f"{o.name}={getattr(inner, o.name)!r}", o.help) for o in options]
    print(f"\n{wrapped_table(('option', 'in Python', 'what it does'), rows)}")
    for option in options:
        if option.known:
            print(f"\n{option.flag}: {_values(option)}")


def _values(option: Option) -> str:
    """The values of an option that have a name, and what else it takes."""
    return f"{', '.join(option.known() if option.known else ())} ({option.help})"


def _what_it_does(described: object) -> str:
    """The first line of a class's docstring."""
    return (type(described).__doc__ or "").strip().split("\n", 1)[0]
