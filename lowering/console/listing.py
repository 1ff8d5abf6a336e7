"""`pefslc passes` and `pefslc targets`."""

from __future__ import annotations

import click

from pefslc.console.loading import LoadingCommand

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
    print("\nOnly with --fmt:")
    for name in SAID_BY_USER:
        print(f"  {name}")
    print("With --requantize, change-formats runs in place of check-format.")
    print("A plugin's passes run last on their level.")
    for entry in installed_passes():
        print(f"installed: --plugin {entry.name} ({entry.value})")


@click.command(
    "targets", cls=LoadingCommand, loads="pefslc.passes.pipeline", short_help="the targets and their architectures"
)
def list_targets() -> None:
    """List what --target takes, and the boards that --arch takes."""
    from pefslc.console.tables import wrapped_table
    from pefslc.diagnostics.errors import CompileError
    from pefslc.driver.target_registry import find_target, target_names
    from pefslc.targets.tensil.machine.architecture import built_in_architectures

    rows = []
    for name in target_names():
        try:
            rows.append((name, find_target(name).summary))
        except CompileError as e:
            rows.append((name, str(e)))
    print(wrapped_table(("target", "what it is"), rows))
    print(f"\n--arch of tensil: {', '.join(built_in_architectures())}, or the path of a .tarch file")


def _what_it_does(described: object) -> str:
    """The first line of a class's docstring."""
    return (type(described).__doc__ or "").strip().split("\n", 1)[0]
