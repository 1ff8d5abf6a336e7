"""Progress on stderr: a bar for work that takes longer than a second, on terminals only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pefslc.diagnostics.progress import Progress

__all__ = ["progress_bar"]

_PATIENCE_SECONDS = 1.0


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress | None]:
    """A callback (done, total, what) that draws a bar once a second has passed; None where nobody watches."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    bar = _Bar()
    try:
        yield bar.update
    finally:
        bar.close()


class _Bar:
    def __init__(self) -> None:
        self.start = time.monotonic()
        self.display: object | None = None

    def update(self, done: int, total: int, what: str) -> None:
        if self.display is None and time.monotonic() - self.start < _PATIENCE_SECONDS:
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Display

        if not isinstance(self.display, Display):
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self.display = Display(*columns, console=Console(stderr=True), transient=True)
            self.display.start()
            self.display.add_task(what, total=None)
        self.display.update(self.display.task_ids[0], description=what, completed=done, total=total or None)

    def close(self) -> None:
        if self.display is not None:
            self.display.stop()  # type: ignore[attr-defined]  # a rich Progress, imported only when drawn
