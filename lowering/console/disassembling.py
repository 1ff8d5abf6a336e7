"""`pefslc disassemble PROGRAM.tmodel`: the instructions, one a line; pefslc.targets.tensil.listing reads them back."""

from __future__ import annotations

from pathlib import Path

import click

from pefslc.console.loading import LoadingCommand

__all__ = ["disassemble_program"]


@click.command(
    "disassemble",
    cls=LoadingCommand,
    loads="pefslc.targets.tensil.listing",
    short_help="the instructions of a .tmodel, one a line",
)
@click.argument("program", type=click.Path())
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def disassemble_program(program: str, debug: bool) -> None:
    """List the instructions of PROGRAM, any .tmodel: addresses, strides and sizes in vectors, SIMD in words."""
    del debug  # read by cli.run
    if not Path(program).exists():
        raise click.UsageError(f"no such file: {program!r}")
    from pefslc.targets.tensil.listing import disassemble
    from pefslc.targets.tensil.tmodel import load_tmodel

    print(disassemble(load_tmodel(Path(program)).instructions))
