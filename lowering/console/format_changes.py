"""What --requantize did, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from pefslc.console.columns import Column, print_columns
from pefslc.reports.format_changes import FormatChange

__all__ = ["print_format_changes"]


def print_format_changes(changes: Sequence[FormatChange], console: Console | None = None) -> None:
    """Each quantizer that changed, and a total."""
    columns = [
        Column("quantizer", [Text(c.name) for c in changes]),
        Column("role", [Text(c.role) for c in changes]),
        Column("was", [Text(c.before) for c in changes]),
        Column("is", [Text(c.after) for c in changes]),
        Column("values", [Text(f"{c.count:,}" if c.count else "") for c in changes], right=True),
        Column("changed", [_share(c.changed, c.count) for c in changes], right=True),
        Column("clipped", [_share(c.clipped, c.count) for c in changes], right=True),
    ]
    if changes:
        print_columns(columns, ("values", "role"), console)
    weights = [c for c in changes if c.role == "weight"]
    total, moved = sum(c.count for c in weights), sum(c.changed for c in weights)
    print(
        f"requantized: {len(weights)} weight and {len(changes) - len(weights)} activation quantizers; "
        f"{moved:,} of {total:,} weights have another value"
    )
    print()


def _share(part: int, count: int) -> Text:
    return Text(f"{100 * part / count:.1f} %" if count else "")
