"""`pefslc passes`, `pefslc targets` and `pefslc targets NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pefslc.console.completion import complete_target
from pefslc.console.loading import LoadingCommand
from pefslc.console.options import json_option, target_limits
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
@json_option
def list_passes(as_json: bool) -> None:
    """List the passes in the order in which they run."""
    from pefslc.analysis.limits import TargetLimits
    from pefslc.console.json_output import print_json
    from pefslc.console.tables import wrapped_table
    from pefslc.driver.plugins import installed_passes
    from pefslc.numeric.format import FixedPoint
    from pefslc.passes.pipeline import SAID_BY_USER, pipeline

    rows = [
        (str(order), p.name, p.level.value, p.exactness.value, _what_it_does(p))
        for order, p in enumerate(pipeline(TargetLimits(32, "the accumulator"), fmt=FixedPoint(2, 3)), 1)
    ]
    if as_json:
        keys = ("name", "level", "promise", "summary")
        installed = [{"name": entry.name, "value": entry.value} for entry in installed_passes()]
        passes = [dict(zip(keys, row[1:], strict=True)) for row in rows]
        print_json({"passes": passes, "only_with_formats": list(SAID_BY_USER), "installed": installed})
        return
    print(wrapped_table(("", "pass", "level", "promise", "what it does"), rows))
    print("\nOnly with --fmt, --formats or --input-fmt:")
    for name in SAID_BY_USER:
        print(f"  {name}")
    print("With --requantize, change-formats runs in place of check-format; with --formats, check-formats.")
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
@json_option
def list_targets(name: str | None, as_json: bool) -> None:
    """List what --target takes; with a NAME, that target's options and limits, under the options that are given."""
    if name is not None:
        _show_target(name, as_json=as_json)
        return
    for option in given_options(click.get_current_context()):
        raise click.UsageError(f"--{option.replace('_', '-')} needs the name of a target")
    from pefslc.console.json_output import print_json
    from pefslc.console.tables import wrapped_table
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.target_registry import find_target, target_names
    from pefslc.driver.user_target import inner_target
    from pefslc.targets.options import options_of

    rows, values, known_problems = [], [], []
    for known in target_names():
        try:
            target = find_target(known)
            rows.append((known, target.summary))
            values += [f"{o.flag} of {known}: {_values(o)}" for o in options_of(inner_target(target)) if o.known]
        except CompileError as e:
            rows.append((known, str(e)))
            known_problems += [{"target": known, **problem.to_json()} for problem in e.problems]
    if as_json:
        broken = {problem["target"] for problem in known_problems}
        listed = [{"name": known, "summary": None if known in broken else text} for known, text in rows]
        print_json({"targets": listed, "problems": known_problems})
        return
    print(wrapped_table(("target", "what it is"), rows))
    print("\n" + "\n".join([*values, "`pefslc targets NAME` shows a target's options and limits."]))


def _show_target(name: str, *, as_json: bool) -> None:
    from pefslc.console.json_output import print_json, target_json
    from pefslc.console.tables import wrapped_table
    from pefslc.driver.user_target import inner_target
    from pefslc.targets.options import options_of
    from pefslc.targets.protocol import TargetOptions, stages_of

    target = chosen_target(name)
    inner = inner_target(target)
    limits = target_limits(target, TargetOptions())
    options = options_of(inner)
    if as_json:
        print_json(target_json(target, limits, stages_of(target), options))
        return
    print(f"{target.name}: {target.summary}\n")
    if limits.splits_sums:
        wider = "wider ones are made of several words, exactly, where a way is proved"
        print(f"sums of {limits.accumulator_bits} bits: {limits.accumulator_name}; {wider}")
    else:
        print(f"sums of at most {limits.accumulator_bits} bits: {limits.accumulator_name}")
    if limits.native_format is not None:
        print(f"native arithmetic, for float models: {limits.native_format}")
    if stages := stages_of(target):
        print(f"stages, for --print-ir-after and --dump-dir: {', '.join(stages)}")
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
