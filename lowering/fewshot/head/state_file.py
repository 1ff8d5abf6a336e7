"""State files: what a device learned, in a layout that C and old Pythons read without effort.

All numbers are little-endian words of 4 bytes, unsigned but for those marked int32; nothing needs padding.

    offset       size   what
    0            8      "PEFSHEAD"
    8            4      version of the layout: 1
    12           4      N, the size of the file in bytes
    16           32     SHA-256 of the backbone
    48           4      kind: 0 cosine, 1 Euclid
    52           4      D, the dimension
    56           4      lowest code, int32
    60           4      highest code, int32
    64           4      fraction bits of the centre
    68           4      most shots of a class
    72           4      most classes
    76           4      most devices
    80           4      V, the number of devices
    84           4      K, the number of classes
    88           4 C    the centre, int32 each: C = D for cosine, 0 for Euclid
    then         4 V    the devices' ids, strictly ascending
    then         K times, by strictly ascending id:
                 4        the class' id
                 4        n, its shots
                 32       its name in UTF-8, zeros behind it
                 4 D      the sums of its codes, int32 each, in n lowest to n highest code
    N - 4        4      CRC-32 of all bytes before (polynomial 0x04C11DB7 reflected, as zlib's)

One state has one file: the same bytes whoever wrote it, Python, the emitted C or the emitted Python.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.head.classifier import Classifier
from pefslc.fewshot.head.spec import HeadKind, HeadSpec
from pefslc.fewshot.head.state import NAME_BYTES, HeadState, check_name, require_same
from pefslc.files.folder_lock import locked
from pefslc.files.reading import unreadable
from pefslc.files.staging import require_replaceable, write_file

__all__ = [
    "MAGIC", "RECORD_HEAD_BYTES", "VERSION",
    "editing", "from_bytes", "header_bytes", "load_state", "save_state", "to_bytes",
]  # fmt: skip

MAGIC = b"PEFSHEAD"
VERSION = 1

_HEADER = struct.Struct("<8sII32sIIiiIIIIII")
_CLASS = struct.Struct(f"<II{NAME_BYTES}s")
_KINDS = (HeadKind.COSINE, HeadKind.EUCLID)
RECORD_HEAD_BYTES = _CLASS.size  # of a class, before its sums
_LEAST_BYTES = _HEADER.size + 4
_LARGEST_FILE = 1 << 31


def to_bytes(state: HeadState) -> bytes:
    """The file of a state."""
    spec, classifier = state.spec, state.classifier
    body = [np.array(spec.centre, dtype="<i4").tobytes(), np.array(sorted(state.devices), dtype="<u4").tobytes()]
    for class_id in classifier.classes:
        name = state.names.get(class_id, "").encode()
        body.append(_CLASS.pack(class_id, classifier.shots(class_id), name))
        body.append(classifier.sums(class_id).astype("<i4").tobytes())
    size = _LEAST_BYTES + sum(map(len, body))
    content = header_bytes(state, size, len(state.devices), len(classifier.classes)) + b"".join(body)
    return content + struct.pack("<I", zlib.crc32(content))


def header_bytes(state: HeadState, size: int, devices: int, classes: int) -> bytes:
    """What stands before the centre, with these numbers for the size of the file and the counts."""
    spec = state.spec
    return _HEADER.pack(
        MAGIC, VERSION, size, bytes.fromhex(state.backbone),
        _KINDS.index(spec.kind), spec.dimension, spec.low, spec.high, spec.fraction_bits,
        spec.max_shots, spec.max_classes, spec.max_devices, devices, classes,
    )  # fmt: skip


def from_bytes(content: bytes, what: str = "the state") -> HeadState:
    """The state of a file. Raises CompileError where the bytes are not those of `to_bytes`, to the last one.

    what  "the state in 'x.state'", for the message
    """
    if content[: len(MAGIC)] != MAGIC[: len(content)]:
        raise _damaged(f"{what} is none: it does not begin with {MAGIC.decode()}")
    if len(content) < _LEAST_BYTES:
        raise _damaged(f"{what} is cut short: {len(content)} bytes are less than any state has")
    header = _HEADER.unpack_from(content)
    _, version, size, backbone, kind, dimension, low, high, fraction, shots, classes, devices, known, count = header
    if size != len(content):
        happened = "is cut short" if len(content) < size else "has too many bytes"
        raise _damaged(f"{what} {happened}: it has {len(content)} of {size} bytes")
    if zlib.crc32(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
        raise _damaged(f"{what} is damaged: its checksum is wrong")
    if version != VERSION:
        raise CompileError(
            Code.STATE_DAMAGED, f"{what} has layout {version}, not {VERSION}", hint="use the pefslc that wrote it"
        )
    try:
        # From here on only a file that was made by hand is wrong.
        length = dimension if _KINDS[kind] is HeadKind.COSINE else 0
        record = _CLASS.size + 4 * dimension
        _require(size == _LEAST_BYTES + 4 * length + 4 * known + count * record)
        centre = np.frombuffer(content, "<i4", length, _HEADER.size)
        spec = HeadSpec(
            kind=_KINDS[kind], dimension=dimension, low=low, high=high, centre=tuple(centre.tolist()),
            fraction_bits=fraction, max_shots=shots, max_classes=classes, max_devices=devices,
        )  # fmt: skip
        ids = tuple(np.frombuffer(content, "<u4", known, _HEADER.size + 4 * length).tolist())
        _require(1 <= known <= devices and list(ids) == sorted(set(ids)))
        state = HeadState(backbone=backbone.hex(), classifier=Classifier(spec), devices=ids)
        for at in range(_HEADER.size + 4 * (length + known), size - 4, record):
            _read_class(state, content, at)
        _require(to_bytes(state) == content)  # order, ids that repeat, padding of names
    except (ValueError, IndexError, CompileError) as e:
        raise _damaged(f"{what} contradicts itself{f': {e.args[0]}' if isinstance(e, CompileError) else ''}") from None
    return state


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _read_class(state: HeadState, content: bytes, at: int) -> None:
    class_id, count, name = _CLASS.unpack_from(content, at)
    sums = np.frombuffer(content, "<i4", state.spec.dimension, at + _CLASS.size)
    state.classifier.set_class(class_id, count, sums)
    text = name.rstrip(b"\0").decode()
    check_name(text)
    if text:
        state.names[class_id] = text


def _damaged(message: str) -> CompileError:
    return CompileError(Code.STATE_DAMAGED, message, hint="take a copy of it, or enrol the shots again")


def load_state(path: Path, *, spec: HeadSpec | None = None, backbone: str | None = None) -> HeadState:
    """The state in a file. Raises CompileError where there is none, it is damaged, or of another spec or backbone."""
    what = f"the state in {quote(path)}"
    try:
        if path.exists() and not path.is_file():
            raise CompileError(Code.UNREADABLE_FILE, f"{quote(path)} is no file", hint="give the path of a state")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE)
    except OSError as e:
        raise unreadable(path, e) from None
    state = from_bytes(content, what)
    require_same(state, spec, backbone, what)
    return state


def save_state(path: Path, state: HeadState) -> None:
    """Write the file whole or not at all, over a state at most. Raises CompileError.

    Who read the state before must have held the lock since: `editing` does.
    """
    require_replaceable(path, "state file", _is_state)
    write_file(path, to_bytes(state), durable=True)


def _is_state(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def editing(
    path: Path, *, spec: HeadSpec | None = None, backbone: str | None = None, new: HeadState | None = None
) -> Iterator[HeadState]:
    """The state in a file, saved when the block ends; nothing is saved where the block raises.

    One process at a time: what another one learned meanwhile is not lost.

    spec, backbone  what the state must be of; None: anything
    new             the state where there is no file; None: that is refused

    Raises CompileError as `load_state` and `save_state` do, and where another process holds the folder for seconds.
    """
    with ExitStack() as held:
        if new is not None or path.exists():  # else there is nothing to lock, and maybe no folder
            try:
                held.enter_context(locked(path.parent))
            except OSError as e:
                raise CompileError(
                    Code.CANNOT_WRITE, f"cannot write {quote(path)}: {e.strerror or e}", hint="give another path"
                ) from None
        state = new if new is not None and not path.exists() else load_state(path, spec=spec, backbone=backbone)
        yield state
        save_state(path, state)
