"""A lock on a folder: one process at a time writes artifacts there.

The operating system holds the lock, on a file in the folder, and drops it when its process dies: a lock of a dead
process needs no one who notices. The file says who holds it. It is removed with the lock; what a killed process left
is taken over. On a network file system the lock may hold on one computer only: there a file that another computer wrote
counts as held. Where the system has no locks, the record alone is asked: two that begin at one moment may both take it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.interrupts import deferring_interrupts

__all__ = ["LOCK_NAME", "locked"]

LOCK_NAME = ".pefslc.lock"

_PATIENCE_S = 10.0  # writing takes a second at most, but on a slow disk
_POLL_S = 0.02
_LONGEST = 4096  # bytes of a holder's record
_OPENING = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a link and a pipe are not ours
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        # A locked byte cannot be read by others: one far behind the record.
        os.lseek(handle, 1 << 30, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    _BUSY: tuple[type[OSError], ...] = (PermissionError,)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    _BUSY = (BlockingIOError,)


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who wrote the file."""

    pid: int
    host: str
    since: str

    @classmethod
    def this(cls) -> _Holder:
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))

    @classmethod
    def read(cls, path: Path) -> _Holder | None:
        """None where the file is not there, or says nothing: its writer was killed, or has only begun."""
        try:
            content = json.loads(path.read_bytes()[:_LONGEST])
            return cls(int(content["pid"]), str(content["host"]), str(content["since"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def to_bytes(self) -> bytes:
        return json.dumps({"pid": self.pid, "host": self.host, "since": self.since}).encode()

    @property
    def is_elsewhere(self) -> bool:
        return self.host != socket.gethostname()

    @property
    def may_live(self) -> bool:
        """Whether it is on another computer, or a process of this one with its number runs."""
        if self.is_elsewhere:
            return True
        if sys.platform == "win32" or self.pid <= 0:
            return False  # os.kill would end it there
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return self.pid != os.getpid()

    def __str__(self) -> str:
        return f"process {self.pid} on {quote(self.host)} since {quote(self.since)}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is not there.

    Raises CompileError, after some seconds, where another process holds it; OSError where no file can be made.
    """
    handle: int | None = None
    try:
        end = time.monotonic() + _PATIENCE_S
        while handle is None:
            with deferring_interrupts():  # a lock that is taken is one that is released
                handle = _try_to_lock(folder)
            if handle is None:
                if time.monotonic() > end:
                    raise _refusal(folder)
                time.sleep(_POLL_S)
        yield
    finally:
        if handle is not None:
            with deferring_interrupts():
                _release(folder, handle)


def _try_to_lock(folder: Path) -> int | None:
    path = folder / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _OPENING, 0o666)
    except FileNotFoundError:  # who made the folder before removed it: its compile failed
        folder.mkdir(parents=True, exist_ok=True)
        return None
    except PermissionError:
        if sys.platform == "win32" and path.exists():
            return None  # it is being removed
        raise
    except OSError as e:
        raise (_no_file() if e.errno in (errno.EISDIR, errno.ELOOP, errno.ENXIO) else e) from None
    taken = False
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _no_file()
        taken = _take(path, handle)
    finally:
        if not taken:
            os.close(handle)
    return handle if taken else None


def _no_file() -> OSError:
    return OSError(errno.EINVAL, f"{LOCK_NAME} in it is no file: remove it")


def _take(path: Path, handle: int) -> bool:
    """Lock an open file and write who holds it; False where it is held, or no longer the folder's."""
    kept_by_system = True
    try:
        _lock(handle)
    except _BUSY:
        return False
    except OSError as e:
        if e.errno not in _NO_LOCKS:
            raise
        kept_by_system = False  # only the record says who holds it
    try:
        if not os.path.samestat(os.fstat(handle), os.stat(path)):
            return False
    except FileNotFoundError:
        return False
    holder = _Holder.read(path)
    if holder is not None and (holder.is_elsewhere if kept_by_system else holder.may_live):
        return False
    try:
        os.truncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, _Holder.this().to_bytes())
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    return True


def _release(folder: Path, handle: int) -> None:
    with suppress(OSError):
        os.truncate(handle, 0)
    if sys.platform == "win32":  # an open file cannot be removed there
        os.close(handle)
        with suppress(OSError):
            (folder / LOCK_NAME).unlink()
        return
    with suppress(OSError):
        (folder / LOCK_NAME).unlink()
    os.close(handle)


def _refusal(folder: Path) -> CompileError | OSError:
    path = folder / LOCK_NAME
    if not path.exists():
        return OSError(errno.ENOENT, "no file can be made in it")  # /proc, say
    holder = _Holder.read(path)
    who = "another process" if holder is None else str(holder)
    hint = "wait until it has ended, or choose another folder (-o)"
    if holder is not None and holder.is_elsewhere:
        hint = f"wait until it has ended, or choose another folder (-o); if it runs no more, remove {quote(path)}"
    return CompileError(Code.FOLDER_IN_USE, f"{quote(folder)} is being written by {who}", hint=hint)
