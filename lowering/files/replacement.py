"""Replacing several files of a folder as one: all of them, or none, wherever a process is ended.

    <folder>/.pefslc-staged-<random>/new/    the files to come, written in full
                                     old/    those that they replace, moved there one by one
                                     journal.json    names and hashes; from here on files move

The old files move away, the last one first, then the new ones into place, in order: where the last one is, all that it
speaks of is there. While the last of `new` is there, the replacement is not done: `undo_unfinished`, which the next
compile into the folder calls, moves the old ones back. Until then whoever reads must ask `half_replaced`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pefslc.files.interrupts import deferring_interrupts

__all__ = ["half_replaced", "replace_files", "undo_unfinished"]

_PREFIX = ".pefslc-staged-"
_JOURNAL, _NEW, _OLD = "journal.json", "new", "old"


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` into `folder`, in order; where that fails or is interrupted, everything is as it was.

    The folder's lock must be held. Raises OSError.
    """
    staged = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    try:
        for part in (_NEW, _OLD):
            (staged / part).mkdir()
        for name, content in files.items():
            (staged / _NEW / name).write_bytes(content)
        journal = _Journal(
            {name: sha256(content).hexdigest() for name, content in files.items()},
            tuple(name for name in files if os.path.lexists(folder / name)),
        )
        journal.write(staged)
    except BaseException:
        _remove(staged)
        raise
    try:
        for name in reversed(journal.replaced):
            os.replace(folder / name, staged / _OLD / name)
        for name in files:
            os.replace(staged / _NEW / name, folder / name)
    except BaseException:
        with deferring_interrupts():
            journal.undo(folder, staged)  # where that fails, too, the next compile does it
            _remove(staged)
        raise
    _remove(staged)


def _remove(staged: Path) -> None:
    """What cannot be removed now, the next compile removes."""
    with deferring_interrupts():
        shutil.rmtree(staged, ignore_errors=True)


def undo_unfinished(folder: Path) -> None:
    """Undo what ended processes began in `folder`, and remove what they left. The folder's lock must be held."""
    for staged in _staged(folder):
        journal = _Journal.read(staged)
        if journal is not None and journal.is_unfinished(staged):
            journal.undo(folder, staged)
        shutil.rmtree(staged)


def half_replaced(folder: Path) -> frozenset[str]:
    """The names of files that are being replaced, or were when the process that did it was ended."""
    journals = [(staged, _Journal.read(staged)) for staged in _staged(folder)]
    return frozenset(
        name for staged, journal in journals if journal is not None and journal.is_unfinished(staged)
        for name in journal.digests
    )  # fmt: skip


def _staged(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob(f"{_PREFIX}*")) if path.is_dir() and not path.is_symlink()]


@dataclass(frozen=True, slots=True)
class _Journal:
    """What a replacement will do.

    digests   the SHA-256 of each new file, in the order in which they move
    replaced  the names that lay in the folder before
    """

    digests: Mapping[str, str]
    replaced: tuple[str, ...]

    def write(self, staged: Path) -> None:
        """All of it at once: a part of a journal is none."""
        text = json.dumps({"files": self.digests, "replaced": self.replaced})
        beside = staged / f"{_JOURNAL}.new"
        beside.write_bytes(text.encode())
        os.replace(beside, staged / _JOURNAL)

    @classmethod
    def read(cls, staged: Path) -> _Journal | None:
        """None where nothing moved yet."""
        try:
            content = json.loads((staged / _JOURNAL).read_bytes())
            digests = {str(name): str(digest) for name, digest in content["files"].items()}
            journal = cls(digests, tuple(map(str, content["replaced"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        # Nobody's file outside of the folder, whoever wrote the journal.
        return journal if all(Path(name).name == name for name in journal.digests) else None

    def is_unfinished(self, staged: Path) -> bool:
        last = next(reversed(tuple(self.digests)), None)
        return last is not None and os.path.lexists(staged / _NEW / last)

    def undo(self, folder: Path, staged: Path) -> None:
        """Put back what lay there. May be ended and done again. What somebody else put in a new file's place stays."""
        # The last file first: it says that the replacement is not done.
        for name in reversed(tuple(self.digests)):
            path, new, old = folder / name, staged / _NEW / name, staged / _OLD / name
            if not os.path.lexists(new) and self._is_new(path):
                os.replace(path, new)
            if os.path.lexists(old) and not os.path.lexists(path):
                os.replace(old, path)

    def _is_new(self, path: Path) -> bool:
        with suppress(OSError):
            return not path.is_symlink() and sha256(path.read_bytes()).hexdigest() == self.digests[path.name]
        return False
