"""Commands that load heavy modules before they begin, and no signal in the middle of that.

Parsing must stay fast (`--help`), so that commands import what they need when they run.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from pefslc.files.interrupts import deferring_interrupts

__all__ = ["LoadingCommand"]


class LoadingCommand(click.Command):
    """A command that runs when the module `loads`, and so what that imports, is loaded."""

    def __init__(self, *args: Any, loads: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loads = loads

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with deferring_interrupts():  # the callbacks of options import, too
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as e:
            e.ctx = e.ctx or ctx  # the parser does not always name the command
            raise

    def invoke(self, ctx: click.Context) -> Any:
        with deferring_interrupts():
            import_module(self.loads)
        return super().invoke(ctx)
