"""`pefslc disassemble PROGRAM.tmodel`: the instructions, one a line; `tensil.program.listing` reads them back."""

from __future__ import annotations

from pathlib import Path

import click

from pefslc.console.loading import LoadingCommand
from pefslc.console.options import no_such_file

__all__ = ["disassemble_program"]


@click.command(
    "disassemble",
    cls=LoadingCommand,
    loads="pefslc.targets.tensil.program.listing",
    short_help="the instructions of a .tmodel, one a line",
)
@click.argument("program", type=click.Path())
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def disassemble_program(program: str, debug: bool) -> None:
    """List the instructions of PROGRAM: any .tmodel, or a folder with one.

    Addresses, strides and sizes are in vectors, SIMD in words.
    """
    del debug  # read by cli.run
    if not Path(program).exists():
        raise no_such_file(program, click.get_current_context())
    from pefslc.targets.tensil.program.listing import disassemble
    from pefslc.targets.tensil.program.tmodel import load_tmodel

    print(disassemble(load_tmodel(_program_file(Path(program))).instructions))


def _program_file(path: Path) -> Path:
    """The file itself, or the one .tmodel of a folder. Raises CompileError."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote
    from pefslc.targets.tensil.program.tmodel import GIVE_A_TMODEL

    if not path.is_dir():
        return path
    found = sorted(path.glob("*.tmodel"))
    if not found:
        raise CompileError(Code.NOT_AN_ARTIFACT, f"{quote(path)} holds no .tmodel", hint=GIVE_A_TMODEL)
    if len(found) > 1:
        names = ", ".join(quote(p.name) for p in found)
        raise CompileError(
            Code.SEVERAL_ARTIFACTS,
            f"{quote(path)} holds {len(found)} programs: {names}",
            hint="give one of these files",
        )
    return found[0]
