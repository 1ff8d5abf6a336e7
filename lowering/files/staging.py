"""Writing artifacts: all of them or none, and never over a file that no compile of this model wrote.

One process at a time (`folder_lock`) replaces all files as one (`replacement`), the sidecar last: where the hashes in a
sidecar are those of its files, it is complete.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.files.folder_lock import locked
from pefslc.files.replacement import replace_files, undo_unfinished

__all__ = ["in_the_way", "publish", "require_replaceable", "write_file", "write_files"]

_ANOTHER_MODEL = "choose another folder (-o), or another name for the model's file"


def publish(folder: Path, files: Mapping[str, bytes], sidecar: tuple[str, bytes]) -> tuple[Path, ...]:
    """Write `files`, then the sidecar (name, content), into `folder`, which is made when it is not there.

    Raises CompileError, before anything is touched, where a file is in the way that no compile wrote, or the compile of
    another model; or where another process writes there. What a process that was killed left half done is undone first.
    What the last compile of this model wrote, and this one does not, is removed, if nobody changed it.
    """
    everything = {**files, sidecar[0]: sidecar[1]}  # the sidecar comes last, also in the result
    assert all(Path(name).name == name for name in everything), "an artifact outside of its folder"
    missing = [part for part in (folder, *folder.parents) if not os.path.lexists(part)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            undo_unfinished(folder)
            _refuse_foreign_files(folder, everything, sidecar)
            left_over = _left_over(folder, everything, sidecar[0])
            replace_files(folder, everything)
            for path in left_over:
                path.unlink(missing_ok=True)
    except BaseException as e:
        for made in missing:
            with suppress(OSError):  # not empty: somebody else's
                made.rmdir()
        if not isinstance(e, OSError):
            raise
        reason = "it is no folder" if isinstance(e, FileExistsError | NotADirectoryError) else e.strerror or e
        raise CompileError(
            Code.CANNOT_WRITE, f"cannot write into {quote(folder)}: {reason}", hint="choose another folder (-o)"
        ) from None
    return tuple(folder / name for name in everything)


def write_file(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write one file, whole or not at all. Raises CompileError, also where something is that is no plain file.

    durable  after a loss of power, too: one of the two contents is there, not an empty file under the new name
    """
    require_replaceable(path)
    try:
        handle, staged = tempfile.mkstemp(prefix=".pefslc-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.chmod(staged, 0o666 & ~_umask())
            os.replace(staged, path)
        except BaseException:
            os.unlink(staged)
            raise
    except OSError as e:
        raise CompileError(
            Code.CANNOT_WRITE, f"cannot write {quote(path)}: {e.strerror or e}", hint="give another path"
        ) from None


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a folder that is there, in their order: all of them or none, as `publish` does. Who calls it has
    asked whether what lies there may be replaced. Raises CompileError.
    """
    try:
        with locked(folder):
            undo_unfinished(folder)
            replace_files(folder, files)
    except OSError as e:
        raise CompileError(
            Code.CANNOT_WRITE, f"cannot write into {quote(folder)}: {e.strerror or e}", hint="give another path"
        ) from None


def require_replaceable(
    path: Path,
    kind: str = "file",
    is_kind: Callable[[Path], bool] = lambda _: True,
    hint: str = "give another path",
) -> None:
    """Demand that nothing lies at `path`, or a plain file that `is_kind` says is one of the kind that replaces it.

    kind  ".npz file", for the message

    Raises CompileError.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file():
        raise in_the_way(path, "is in the way and is no plain file", hint)
    try:
        replaceable = is_kind(path)
    except OSError:
        replaceable = False  # nobody knows what an unreadable file is
    if not replaceable:
        raise in_the_way(path, f"exists and is no {kind}", hint)


def in_the_way(path: Path, why: str, hint: str) -> CompileError:
    """The error that says what lies at `path`."""
    return CompileError(Code.IN_THE_WAY, f"{quote(path)} {why}", hint=hint)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@dataclass(frozen=True, slots=True)
class _Record:
    """What a sidecar says that it owns: the SHA-256 of each file, its own included; and the model file it came from."""

    sidecar: str
    source: str
    digests: Mapping[str, str]


def _refuse_foreign_files(folder: Path, files: Mapping[str, bytes], sidecar: tuple[str, bytes]) -> None:
    records = _records(folder)
    new = _record(*sidecar)
    problems = []
    for name, content in files.items():
        path = folder / name
        if not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_file():
            problems.append(
                Problem(Code.IN_THE_WAY, f"{quote(path)} is in the way and is no plain file", hint="remove it")
            )
            continue
        present = path.read_bytes()
        if present == content:
            continue
        digest = sha256(present).hexdigest()
        owners = [r for r in records if r.digests.get(name) == digest]
        if not owners:
            problems.append(
                Problem(
                    Code.IN_THE_WAY,
                    f"{quote(path)} exists and is not what a compile wrote",
                    hint="move it away, or choose another folder (-o)",
                )
            )
        for owner in owners:
            if owner.sidecar not in files:  # a sidecar may list others: they are replaced with it
                problems.append(
                    Problem(Code.IN_THE_WAY, f"{quote(path)} belongs to {quote(owner.sidecar)}", hint=_ANOTHER_MODEL)
                )
            elif name == owner.sidecar and new is not None and owner.source and new.source != owner.source:
                found = f"was compiled from {quote(owner.source)}, not from {quote(new.source)}"
                problems.append(Problem(Code.IN_THE_WAY, f"{quote(path)} {found}", hint=_ANOTHER_MODEL))
    if problems:
        raise CompileError.of(problems)


def _left_over(folder: Path, files: Mapping[str, bytes], sidecar: str) -> list[Path]:
    """The files of the sidecar that is to be replaced, as it lists them, that will belong to no compile."""
    records = _records(folder)
    last = next((record for record in records if record.sidecar == sidecar), None)
    if last is None:
        return []
    others = {name for record in records if record is not last for name in record.digests}
    found = [folder / name for name in last.digests if name not in files and name not in others]
    return [
        path for path in found
        if path.parent == folder and path.is_file() and not path.is_symlink()
        and sha256(path.read_bytes()).hexdigest() == last.digests[path.name]
    ]  # fmt: skip


def _records(folder: Path) -> list[_Record]:
    """The sidecars of `folder`, which vouch for themselves and for the files that they list."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = _record(path.name, path.read_bytes())
        except OSError:
            continue
        if record is not None:
            found.append(record)
    return found


def _record(name: str, content: bytes) -> _Record | None:
    """None where the content is no sidecar of that name."""
    try:
        fields = json.loads(content)
        if name != f"{fields['model']}.{fields['target']}.json":
            return None
        digests = {str(file): str(digest) for file, digest in fields["files"].items()}
        return _Record(name, str(fields.get("source", "")), {**digests, name: sha256(content).hexdigest()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
