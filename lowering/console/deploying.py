"""`pefslc deploy BUILD user@host`: copies a compiled model to a board by scp, and runs its self-test there by ssh."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from pefslc.console.loading import LoadingCommand
from pefslc.console.options import input_file, no_such_file

__all__ = ["deploy"]

_USUAL_HOST = "xilinx@pynq"


@click.command(
    "deploy",
    cls=LoadingCommand,
    loads="pefslc.driver.deployment",
    short_help="copy a model to a board by scp and test it there, or print the commands",
)
@click.argument("build", type=click.Path())
@click.argument("host", required=False, metavar="[USER@HOST]")
@click.option(
    "--bitstream",
    callback=input_file("a bitstream"),
    metavar="FILE.bit",
    help="copy this bitstream and its .hwh, too  [default: the one on the board]",
)
@click.option("--folder", metavar="FOLDER", help="folder on the board  [default: the model's name, in the user's home]")
@click.option("--runs", type=click.IntRange(min=1), metavar="N", help="how many runs to time")
@click.option("--print", "only_print", is_flag=True, help="print the commands, run none")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def deploy(
    build: str,
    host: str | None,
    bitstream: str | None,
    folder: str | None,
    runs: int | None,
    only_print: bool,
    debug: bool,
) -> None:
    """Copy BUILD, which a compile for the target tensil wrote, to a board that runs PYNQ, and run its self-test there.

    Without USER@HOST the commands are printed. The board needs Tensil's driver: `pefslc explain boards`.
    """
    del debug  # read by cli.run
    ctx = click.get_current_context()
    if not Path(build).exists():
        raise no_such_file(build, ctx)
    from pefslc.driver.deployment import is_host, is_remote_folder, plan_deployment, run_command

    if host is not None and not is_host(host):
        raise click.UsageError(f"{host!r} is not HOST or USER@HOST; give other addresses a name in ~/.ssh/config", ctx)
    if folder is not None and not is_remote_folder(folder):
        raise click.UsageError(
            f"--folder {folder!r} is not names with '/' between them, each of letters, digits, '_', '.', '+' and '-', "
            "the first a letter, a digit or '_': for example models/cnn",
            ctx,
        )
    plan = plan_deployment(
        Path(build), host or _USUAL_HOST, folder, None if bitstream is None else Path(bitstream), runs
    )
    for command in plan.commands:
        print(shlex.join(command), flush=True)
        if host is not None and not only_print:
            run_command(command)
