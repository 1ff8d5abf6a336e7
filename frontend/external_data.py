"""Constants that lie in a file beside the model, as torch.onnx.export writes them by default: read, with care.

A model from elsewhere names that file. Only a plain name in the model's own folder is followed, to a regular file of
that folder: nothing absolute, no other folder, no link that leads out. Source: ONNX, External Data.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import onnx

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import Problem, quote
from pefslc.frontend.sizes import LARGEST_TENSOR
from pefslc.geometry.shapes import element_count

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = ["MOST_DATA_BYTES", "ExternalData"]

MOST_DATA_BYTES = 1 << 30  # of all tensors of a model together, unless the user says otherwise
_SELF_CONTAINED = "export the model again, with the data in it (torch: external_data=False) or in a file beside it"
_BESIDE = "the model and its data belong together: copy both into one folder, under the names that the export gave them"
_MORE = "--data-limit reads more"  # how much is known at the end
_BITS: dict[int, int] = {
    onnx.TensorProto.FLOAT: 32, onnx.TensorProto.DOUBLE: 64, onnx.TensorProto.FLOAT16: 16,
    onnx.TensorProto.BFLOAT16: 16, onnx.TensorProto.INT64: 64, onnx.TensorProto.UINT64: 64, onnx.TensorProto.INT32: 32,
    onnx.TensorProto.UINT32: 32, onnx.TensorProto.INT16: 16, onnx.TensorProto.UINT16: 16, onnx.TensorProto.INT8: 8,
    onnx.TensorProto.UINT8: 8, onnx.TensorProto.BOOL: 8, onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4,
}  # fmt: skip


class _Refused(Exception):
    """Why a tensor's data is not read, and what helps."""

    def __init__(self, why: str, hint: str) -> None:
        self.why, self.hint = why, hint


@dataclass(slots=True)
class ExternalData:
    """What lies beside the model at `model`.

    most_bytes  that are read of data files
    read_bytes  how much has been read so far: many tensors may name the same bytes of one file
    """

    model: Path
    most_bytes: int = MOST_DATA_BYTES
    read_bytes: int = field(default=0, init=False)
    _digest: Hash = field(default_factory=sha256, init=False)
    _refused: dict[str, tuple[str, str | None]] = field(default_factory=dict, init=False)

    @property
    def sha256(self) -> str:
        """Of all that was read, in the order of the model's tensors; "" where nothing was."""
        return self._digest.hexdigest() if self.read_bytes else ""

    def told_once(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """The problems, those of tensors that are refused for the same reason as one: a file that is missing, say."""
        given = list(problems)
        counts = Counter(self._refused[p.message] for p in given if p.message in self._refused)
        for problem in given:
            count = counts.pop(self._refused[problem.message], 0) if problem.message in self._refused else 1
            if count > 1:
                others = f"{count - 1} more tensor{'' if count == 2 else 's'}"
                problem = replace(problem, message=f"{problem.message}; so with {others}")
            if problem.hint == _MORE:  # read_bytes has grown by what was refused, too
                hint = f"--data-limit {-(-self.read_bytes // (1 << 30))} reads them all, {self.read_bytes:,} bytes"
                problem = replace(problem, hint=hint)
            if count:
                yield problem

    def take_in(self, tensor: onnx.TensorProto) -> Problem | None:
        """Let `tensor` hold its data itself; the problem where that cannot be."""
        try:
            data = self._data(tensor)
        except _Refused as e:
            return self._problem(tensor, e.why, e.hint)
        except (OSError, ValueError) as e:  # a ValueError for a name that no file can have
            why = getattr(e, "strerror", None) or type(e).__name__
            return self._problem(tensor, f"has a data file that cannot be read ({why})", _BESIDE)
        for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"):
            tensor.ClearField(name)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = data
        return None

    def _problem(self, tensor: onnx.TensorProto, why: str, hint: str) -> Problem:
        problem = Problem(Code.EXTERNAL_DATA, f"tensor {quote(tensor.name)} {why}", hint=hint)
        self._refused[problem.message] = why, hint
        return problem

    def _data(self, tensor: onnx.TensorProto) -> bytes:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not all(isinstance(text, str) for text in (*entries, *entries.values())):  # protobuf's way with other bytes
            raise _Refused("names its data file by bytes that are not UTF-8", "export the model again")
        wanted = _size_bytes(tensor)
        offset, length = _number(entries, "offset", 0), _number(entries, "length", wanted)
        if length != wanted:
            raise _Refused(f"has {wanted} bytes by its shape, {length} in its data file", "export the model again")
        self.read_bytes += length
        if self.read_bytes > self.most_bytes:
            raise _Refused(
                f"and those before it have more than {self.most_bytes:,} bytes in data files",
                _MORE,
            )
        with self._opened(entries.get("location", "")) as file:
            size = os.fstat(file.fileno()).st_size
            if offset + length > size:
                raise _Refused(
                    f"lies at bytes {offset} to {offset + length} of {quote(entries['location'])}, which has {size}",
                    "the data file is cut short, or of another model: export or copy both again",
                )
            file.seek(offset)
            data = file.read(length)
        if len(data) != length:
            raise _Refused(f"could not be read whole from {quote(entries['location'])}", _BESIDE)
        self._digest.update(data)
        return data

    def _opened(self, location: str) -> BinaryIO:
        """The file `location` of the model's folder."""
        if not location or location in (".", "..") or any(c in location for c in "/\\:\0"):
            raise _Refused(
                f"is stored outside the model's folder, in {quote(location)}: only a file beside the model is read",
                _SELF_CONTAINED,
            )
        folder = os.path.realpath(self.model.parent)
        file = os.path.realpath(os.path.join(folder, location))
        if os.path.dirname(file) != folder:
            raise _Refused(
                f"is stored in {quote(location)}, a link to another folder than the model's", _SELF_CONTAINED
            )
        # The end is no link any more, unless somebody changes it just now; no pipe may make us wait.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(file, flags)
        except FileNotFoundError:
            raise _Refused(f"is stored in {quote(location)}, which is not beside the model", _BESIDE) from None
        opened = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            opened.close()
            raise _Refused(f"is stored in {quote(location)}, which is no file", _SELF_CONTAINED)
        return opened


def _size_bytes(tensor: onnx.TensorProto) -> int:
    """How many bytes the tensor's elements take."""
    count, bits = element_count(tuple(tensor.dims)), _BITS.get(tensor.data_type)
    if bits is None:
        raise _Refused(f"is stored outside the model file, as elements of type {tensor.data_type}", _SELF_CONTAINED)
    if min(tensor.dims, default=0) < 0 or count > LARGEST_TENSOR:
        raise _Refused(
            f"declares shape {list(tensor.dims)[:8]}",
            f"at most 2^{LARGEST_TENSOR.bit_length() - 1} elements are supported, and no negative sizes",
        )
    return (count * bits + 7) // 8


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise _Refused(f"has {key} {quote(text)} in its data file, not a number", "export the model again")
    return int(text)
