"""Checkpoints of trainings that a command stopped in: neither thrown away nor gone on with unasked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

__all__ = ["checkpoints", "resume_option"]

resume_option = click.option("--resume", is_flag=True, help="go on with a training that was stopped")


@contextmanager
def checkpoints(output: Path, *stages: str, resume: bool) -> Iterator[Mapping[str, Path]]:
    """The files, by stage, for the checkpoints of a command that writes `output`; removed when all is done.

    stages  those that will run: what others left is not theirs to remove

    Raises CompileError where one is there and `resume` is not given.
    """
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote

    files = {stage: output.with_name(f"{output.name}.{stage}") for stage in stages}
    for file in files.values():
        if file.exists() and not resume:
            raise CompileError(
                Code.OTHER_TRAINING,
                f"{quote(str(file))} is of a training that was stopped",
                hint="go on with it: --resume; or remove it",
            )
    try:
        yield files
    except KeyboardInterrupt:
        kept = [str(file) for file in files.values() if file.exists()]
        if kept:
            click.echo(f"kept: {', '.join(kept)}; the same command with --resume goes on", err=True)
        raise
    for file in files.values():
        file.unlink(missing_ok=True)
