"""`pefslc help [COMMAND...]`: the same as `pefslc COMMAND --help`."""

from __future__ import annotations

import difflib

import click

__all__ = ["show_help"]


@click.command("help", short_help="the help of a command, or this one")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
def show_help(names: tuple[str, ...]) -> None:
    """Print the help of a COMMAND, such as `check` or `fewshot build`; without one, of pefslc."""
    context = click.get_current_context().find_root()
    for name in names:
        group = context.command
        command = group.get_command(context, name) if isinstance(group, click.Group) else None
        if command is None:
            known = group.list_commands(context) if isinstance(group, click.Group) else []
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"{context.command_path} --help"
            raise click.UsageError(f"no command {name!r}\n  help: {meant}", context)
        context = click.Context(command, info_name=name, parent=context)
    print(context.get_help())
