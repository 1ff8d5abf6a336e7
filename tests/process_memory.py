"""What memory a process of its own uses, and how to limit it. Linux only: it reads /proc/self."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_kilobytes() -> int:
    """The most memory that this program has had resident.

    Not getrusage's ru_maxrss: a program started by vfork and exec begins there with its parent's peak.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(peak)


def limit_growth(more_bytes: int) -> None:
    """From here on, the process gets no more than so many bytes of addresses beyond those that it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
