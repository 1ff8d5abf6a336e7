"""`pefslc fewshot demo`: a page on this computer to draw for, and to watch what is recognised."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click

from pefslc.console.fewshot_options import debug_option
from pefslc.console.loading import LoadingCommand

if TYPE_CHECKING:
    from pefslc.fewshot.demo.session import DemoSession

__all__ = ["demo"]

_PORT = 8765


@click.command(
    "demo",
    cls=LoadingCommand,
    loads="pefslc.fewshot.demo.server",
    short_help="a page to draw, drop or film something, enrol it, and watch it recognised",
)
@click.argument("build", type=click.Path())
@click.option(
    "--state", metavar="FILE", help="keep what is learned in this file  [default: it is forgotten at the end]"
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_PORT,
    metavar="N",
    help=f"0 takes one that is free  [default: {_PORT}]",
)
@click.option("--no-open", is_flag=True, help="only print the address, and open no browser")
@click.option(
    "--clock-mhz",
    type=click.FloatRange(1, 10_000),
    metavar="MHZ",
    help="clock of the board, for modelled milliseconds  [default: that of the board's published design]",
)
@debug_option
def demo(build: str, state: str | None, port: int, no_open: bool, clock_mhz: float | None, debug: bool) -> None:
    """Serve a page for the system in the folder BUILD, for this computer only, until Ctrl-C. Its integers are those of
    the compiled C.
    """
    from pefslc.fewshot.demo.board import board_of
    from pefslc.fewshot.demo.server import DemoServer
    from pefslc.fewshot.demo.session import DemoSession
    from pefslc.fewshot.system.system import FewShotSystem

    system = FewShotSystem.open(build)
    path = None if state is None else Path(state)
    session = DemoSession.open(system, path, board_of(system, clock_mhz))
    with DemoServer(session, port, debug=debug) as server:
        try:
            print(f"{system.description.name} at {server.address}  (Ctrl-C ends it)", flush=True)
            if not no_open:
                import webbrowser  # not for the list of commands

                # A browser of the terminal would not come back before it is closed.
                Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt as e:
            session.close()
            print(f"\n{_end(session, path)}")
            if type(e) is not KeyboardInterrupt:
                raise  # terminated: another status


def _end(session: DemoSession, path: Path | None) -> str:
    count = len(session.classes())
    classes = f"{count} class{'' if count == 1 else 'es'}"
    if path is None:
        return f"ended; {classes} forgotten: --state FILE would have kept them" if count else "ended"
    return f"ended; {path} has {classes}" if path.exists() else "ended; nothing was learned, no state was written"
