"""Writing artifacts: all of them or none, and never over a file that a compile did not write.

Everything is staged in a temporary folder beside the destination, on the same file system, then renamed into place,
the sidecar last: a folder with a sidecar is complete.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pefslc.diagnostics import CompileError, Problem, quote

__all__ = ["publish", "safe_file_name", "write_file"]

_LONGEST_NAME = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_file_name(name: str) -> str:
    """`name` as a file name that every file system takes and no shell misreads; "model" when nothing is left."""
    safe = _UNSAFE.sub("_", name).lstrip(".-+").rstrip(".")[:_LONGEST_NAME] or "model"
    return f"_{safe}" if _RESERVED.fullmatch(safe) else safe


def publish(folder: Path, files: Mapping[str, bytes], sidecar: tuple[str, bytes]) -> tuple[Path, ...]:
    """Write `files`, then the sidecar (name, content), into `folder`, which is made when it is not there.

    Raises CompileError, before anything is touched, where a file is in the way that no compile wrote.
    """
    everything = {**files, sidecar[0]: sidecar[1]}  # the sidecar comes last, also in the result
    assert all(Path(name).name == name for name in everything), "an artifact outside of its folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign_files(folder, everything)
        with tempfile.TemporaryDirectory(prefix=".pefslc-", dir=folder) as staged:
            for name, content in everything.items():
                (Path(staged) / name).write_bytes(content)
            for name in everything:
                os.replace(Path(staged) / name, folder / name)
    except OSError as e:
        raise CompileError(
            f"cannot write into {quote(folder)}: {e.strerror or e}", hint="choose another folder with -o"
        ) from None
    return tuple(folder / name for name in everything)


def write_file(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all. Raises CompileError."""
    try:
        handle, staged = tempfile.mkstemp(prefix=".pefslc-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(staged, 0o666 & ~_umask())
            os.replace(staged, path)
        except BaseException:
            os.unlink(staged)
            raise
    except OSError as e:
        raise CompileError(f"cannot write {quote(path)}: {e.strerror or e}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refuse_foreign_files(folder: Path, files: Mapping[str, bytes]) -> None:
    written = _written_by_compiles(folder)
    problems = []
    for name, content in files.items():
        path = folder / name
        if not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_file():
            problems.append(Problem(f"{quote(path)} is in the way and is no plain file", hint="remove it"))
            continue
        present = path.read_bytes()
        if present == content or sha256(present).hexdigest() in written.get(name, ()):
            continue
        problems.append(
            Problem(
                f"{quote(path)} exists and is not what a compile wrote",
                hint="move it away, or choose another folder with -o",
            )
        )
    if problems:
        raise CompileError.of(problems)


def _written_by_compiles(folder: Path) -> dict[str, set[str]]:
    """File name -> the SHA-256 digests under which the sidecars of `folder` list it; sidecars vouch for themselves."""
    written: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content = path.read_bytes()
            record = json.loads(content)
            files = record["files"]
            if path.name != f"{record['model']}.{record['target']}.json" or not isinstance(files, dict):
                continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        written.setdefault(path.name, set()).add(sha256(content).hexdigest())
        for name, digest in files.items():
            written.setdefault(name, set()).add(str(digest))
    return written
