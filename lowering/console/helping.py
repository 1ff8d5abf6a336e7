"""`pefslc help [COMMAND...]`: the same as `pefslc COMMAND --help`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import click

__all__ = ["show_help"]


def _of_pefslc() -> Mapping[str, click.Command]:
    root = click.get_current_context().find_root().command
    return root.commands if isinstance(root, click.Group) else {}


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The commands, and those of a group that is named before."""
    command: click.Command | None = ctx.find_root().command
    for name in ctx.params.get("names") or ():
        command = command.get_command(ctx, name) if isinstance(command, click.Group) else None
    known = command.list_commands(ctx) if isinstance(command, click.Group) else []
    return [name for name in known if name.startswith(incomplete)]


@click.command("help", short_help="the help of a command, or this one")
@click.argument("names", nargs=-1, metavar="[COMMAND]...", shell_complete=_complete)
def show_help(names: tuple[str, ...]) -> None:
    """Print the help of a COMMAND, such as `check` or `fewshot build`; without one, of pefslc."""
    context = click.get_current_context().find_root()
    for name in names:
        group = context.command
        if not isinstance(group, click.Group):
            meant = f"pefslc help {name}" if name in _of_pefslc() else f"{context.command_path} --help"
            raise click.UsageError(f"no command {name!r}\n  help: {meant}", context)
        command = group.get_command(context, name)
        if command is None:
            known = group.list_commands(context)
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"{context.command_path} --help"
            raise click.UsageError(f"no command {name!r}\n  help: {meant}", context)
        context = click.Context(command, info_name=name, parent=context)
    print(context.get_help())
