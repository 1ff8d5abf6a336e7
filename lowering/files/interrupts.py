"""Ctrl-C, SIGTERM and SIGHUP, held back while modules are loaded.

An extension module that meets an exception while it is imported may end the process (nanobind's do), and an interrupt
before `cli.run` would show a traceback. Only small modules of the standard library are imported here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["deferring_interrupts"]

# SIGHUP: not on Windows.
_DEFERRED = tuple(s for s in signal.Signals if s.name in ("SIGINT", "SIGTERM", "SIGHUP"))


@contextmanager
def deferring_interrupts() -> Iterator[None]:
    """Signals of _DEFERRED that arrive inside are delivered, the first of them, when the block has ended."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    arrived: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in _DEFERRED}
    # What is ignored stays ignored. None: set by other than Python, and cannot be put back.
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, remember)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
