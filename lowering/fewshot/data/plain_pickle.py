"""Pickle files that hold plain data: numbers, texts, lists, dicts, NumPy arrays. Nothing that a file says is executed.

A pickle is a program; `pickle.load` runs it. Here every name that it calls is one of the few in `_CALLABLE`, and those
build records of this module, not objects of NumPy: an array's type and length are checked before NumPy sees them.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.reading import unreadable

__all__ = ["array_of", "field", "load_plain", "texts_of"]

_TYPE = re.compile(r"b1|[iu][1248]|f[248]|S[0-9]{1,4}|U[0-9]{1,4}")


def load_plain(path: Path) -> object:
    """What the file holds; texts of Python 2 are read as Latin-1. Raises CompileError.

    Arrays are records: `array_of` makes arrays of them.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except _RefusedError as e:
        raise CompileError(
            Code.UNSAFE_FILE,
            f"{quote(path)} holds more than plain data: it calls {quote(str(e))}",
            hint="nothing of it was executed; get the file from a source that you trust, or convert it to arrays",
        ) from None
    except OSError as e:
        raise unreadable(path, e) from None
    except Exception:
        # A damaged pickle is a wrong program: it can raise nearly anything, MemoryError and RecursionError included.
        raise CompileError(
            Code.DATA_FILE, f"{quote(path)} is no whole pickle file", hint="copy or download it again"
        ) from None


class _RefusedError(pickle.UnpicklingError):
    """A name that a pickle may not call."""


class _Record:
    """What a pickle may call. To change the record itself, as the opcode BUILD would a function, is refused."""

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it has no state")


class _DataType(_Record):
    """numpy.dtype as a pickle builds it: ("u1", align, copy), then a state of which the byte order counts."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">", "|", "=") else ""
        if state[2] is not None or state[3] is not None or state[4] is not None:
            self.code = ""  # sub-arrays, and fields with names

    @property
    def holds_objects(self) -> bool:
        return self.code in ("O", "O8", "O4", "|O")

    def checked(self) -> np.dtype[Any]:
        """Raises ValueError where it is none of numbers or texts."""
        code = self.code.lstrip("<>|=")
        order = self.code[0] if self.code[:1] in ("<", ">") else self.order.replace("=", "<").replace("|", "<")
        if not _TYPE.fullmatch(code) or not order:
            raise ValueError(f"arrays of type {self.code!r} are not read")
        return np.dtype(order + code)


class _Array(_Record):
    """numpy.ndarray as a pickle builds it: made empty, then given a state."""

    def __init__(self, *_: object) -> None:
        self.shape: tuple[int, ...] = ()
        self.data_type = _DataType()
        self.by_columns = False
        self.data: object = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape, self.data_type, self.by_columns, self.data = state[-4:]

    def checked(self) -> NDArray[Any]:
        """Raises ValueError, TypeError or AttributeError where it contradicts itself."""
        shape = tuple(int(n) for n in self.shape)
        if any(n < 0 for n in shape):
            raise ValueError("an axis is negative")
        order: Literal["C", "F"] = "F" if self.by_columns else "C"
        if self.data_type.holds_objects:
            if not isinstance(self.data, list):
                raise ValueError("an array of objects is no list")
            objects = np.empty(len(self.data), object)
            for i, item in enumerate(self.data):  # one by one: NumPy would make one array of equal lists
                objects[i] = item
            return objects.reshape(shape, order=order)
        data = self.data.encode("latin-1") if isinstance(self.data, str) else self.data
        if not isinstance(data, bytes | bytearray):
            raise ValueError("an array has no bytes")
        return np.frombuffer(data, self.data_type.checked()).reshape(shape, order=order)


class _Buffer(_Array):
    """numpy's _frombuffer, which protocol 5 calls."""

    def __init__(self, data: object, data_type: Any, shape: Any, order: object) -> None:
        super().__init__()
        self.shape, self.data_type, self.by_columns, self.data = shape, data_type, order == "F", data


class _Scalar(_Record):
    """One number of NumPy: becomes one of Python's."""

    def __new__(cls, data_type: object, data: object = b"") -> Any:
        array = _Array()
        array.__setstate__(((1,), data_type, False, data))
        return array.checked().tolist()[0]


class _Encoded(_Record):
    """codecs.encode, with which Python 3 writes bytes into a pickle for Python 2; no other encoding is looked up."""

    def __new__(cls, text: object, encoding: object = "latin1") -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("only Latin-1 is encoded")
        return text.encode("latin-1")


class _Bytes(_Record):
    """bytes and bytearray, of bytes alone: of a number they would be as many zeros."""

    def __new__(cls, data: object = b"", encoding: object = "latin1") -> Any:
        return data if isinstance(data, bytes) else _Encoded(data, encoding)


_NUMPY = ("numpy.core", "numpy._core")  # its name before 2.0, and since
_CALLABLE: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DataType,
    **{(f"{core}.multiarray", "_reconstruct"): _Array for core in _NUMPY},
    **{(f"{core}.multiarray", "scalar"): _Scalar for core in _NUMPY},
    **{(f"{core}.numeric", "_frombuffer"): _Buffer for core in _NUMPY},
    ("_codecs", "encode"): _Encoded,
    ("collections", "OrderedDict"): OrderedDict,
    **{(module, name): _Bytes for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin-1")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CALLABLE[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None


def field(content: object, name: str, path: Path) -> Any:
    """The value of a dict's key, which may be a text or bytes. Raises CompileError (DATA_FILE)."""
    if isinstance(content, dict):
        for key in (name, name.encode()):
            if key in content:
                return content[key]
    raise CompileError(Code.DATA_FILE, f"{quote(path)} has no field {quote(name)}", hint="copy or download it again")


def array_of(value: object, path: Path, what: str) -> NDArray[Any]:
    """An array of a record, of a list of numbers, of records. Raises CompileError (DATA_FILE)."""
    try:
        if isinstance(value, _Array):
            return value.checked()
        if isinstance(value, list | tuple):
            array = np.asarray([item.checked() if isinstance(item, _Array) else item for item in value])
            if array.dtype != object:
                return array
    except (ValueError, TypeError, AttributeError, OverflowError) as e:
        raise CompileError(Code.DATA_FILE, f"{quote(path)}: {what} cannot be read: {e}") from None
    raise CompileError(Code.DATA_FILE, f"{quote(path)}: {what} is no array of numbers")


def texts_of(value: object, path: Path, what: str) -> list[str]:
    """A list of texts, also of bytes, which are read as UTF-8. Raises CompileError (DATA_FILE)."""
    values = value
    if isinstance(value, _Array):
        values = array_of(value, path, what).tolist()
    if isinstance(values, list | tuple):
        texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in values]
        if all(isinstance(text, str) for text in texts):
            return texts
    raise CompileError(Code.DATA_FILE, f"{quote(path)}: {what} is no list of texts")
