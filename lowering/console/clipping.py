"""Inputs that clip, said on stderr: a warning where it is much, else a note."""

from __future__ import annotations

from collections.abc import Iterable

import click

from pefslc.reports.clipped_inputs import ClippedInput

__all__ = ["print_clipped"]


def print_clipped(found: Iterable[ClippedInput]) -> None:
    for clipped in found:
        click.echo(f"{'warning' if clipped.heavy else 'note'}: {clipped}", err=True)
        if clipped.heavy:
            click.echo(
                "  help: give inputs as the model was trained on: normalized, in the same order of axes", err=True
            )
