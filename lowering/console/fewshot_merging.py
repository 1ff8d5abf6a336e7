"""`pefslc fewshot merge`: what several devices learned, in one state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.fewshot_options import debug_option, quiet_option
from pefslc.console.loading import LoadingCommand

if TYPE_CHECKING:
    from pefslc.fewshot.head.state import HeadState

__all__ = ["merge"]


@click.command(
    "merge",
    cls=LoadingCommand,
    loads="pefslc.fewshot.head.state_file",
    short_help="put what several devices learned into one state",
)
@click.argument("state", type=click.Path())
@click.argument("others", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="the state to write  [default: STATE itself]")
@quiet_option
@debug_option
def merge(state: str, others: tuple[str, ...], output: str | None, quiet: bool, debug: bool) -> None:
    """Add what OTHERS learned to STATE; with -o into a new file, so that STATE can be merged again later. The result is
    the same in whatever order. States of other systems, and shots that it has already, are refused.
    """
    del debug  # read by cli.run
    from pefslc.fewshot.head.state_file import editing, load_state

    more = [(other, load_state(Path(other))) for other in others]
    if output is None:
        with editing(Path(state)) as merged:
            _merge_all(merged, state, more)
    else:
        merged = load_state(Path(state))
        _merge_all(merged, state, more)
        _write_new(Path(output), state, merged)
    if not quiet:
        devices, classes = len(merged.devices), len(merged.classifier.classes)
        print(f"wrote {output or state}: {classes} classes of {devices} devices")


def _merge_all(merged: HeadState, state: str, more: Sequence[tuple[str, HeadState]]) -> None:
    """Messages name the file that a device's shots came from, which may be one that was merged before."""
    from pefslc.diagnostics.errors import quote

    origin = dict.fromkeys(merged.devices, state)
    for name, other in more:
        twice = next((device for device in other.devices if device in origin), None)
        ours = state if twice is None else origin[twice]
        merged.merge(other, ours=quote(Path(ours)), theirs=quote(Path(name)))
        origin.update(dict.fromkeys(other.devices, name))


def _write_new(output: Path, state: str, merged: object) -> None:
    """Under the lock of its folder; a state that lies there is not replaced: it may be the only one of its device."""
    from pefslc.fewshot.head.state import HeadState
    from pefslc.fewshot.head.state_file import editing
    from pefslc.files.staging import in_the_way

    assert isinstance(merged, HeadState)
    if output.exists():
        raise in_the_way(output, "is in the way", f"remove it, or merge into {state} without -o")
    with editing(output, new=merged) as written:
        if written is not merged:  # another process was faster
            raise in_the_way(output, "is in the way", "give another path with -o")
