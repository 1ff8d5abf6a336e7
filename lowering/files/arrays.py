"""Arrays as users give them - as arrays, by name, on disk - with one clear error for whatever is wrong with them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote, quote_given
from pefslc.files.reading import unreadable
from pefslc.files.staging import write_file

__all__ = ["Arrays", "ArraysLike", "as_array", "as_arrays", "read_arrays", "write_arrays"]

Arrays = Mapping[str, NDArray[np.generic]]
ArraysLike = Arrays | NDArray[np.generic] | str | os.PathLike[str]

_ONLY_INPUT = "x"  # the name of an array that has none: that of a model's one input

_LARGEST_BYTES = 2 << 30  # unpacked; a few kilobytes of zeros, zipped, could fill any memory
_HINT = "save one with numpy.savez(path, x=inputs)"


def as_arrays(given: ArraysLike, what: str) -> dict[str, NDArray[np.generic]]:
    """The arrays by name: of a mapping, of an .npz file, or one array as "x". Raises CompileError.

    what  is given them: "calibrate"
    """
    if isinstance(given, str | os.PathLike):
        return read_arrays(Path(given))
    if isinstance(given, Mapping):
        return {name: as_array(array, f"{what}, array {quote(str(name))}") for name, array in given.items()}
    if not (isinstance(given, Sequence) or hasattr(given, "__array__")) or isinstance(given, bytes):
        raise CompileError(
            Code.INPUT_ARRAY,
            f"{what} is {quote_given(given)}, no arrays",
            hint="an array for a model of one input, a dict of arrays by input name, or the path of an .npz file",
        )
    return {_ONLY_INPUT: as_array(given, what)}


def as_array(given: object, what: str) -> NDArray[np.generic]:
    """What NumPy makes an array of: an array, nested lists, a tensor of torch. Raises CompileError.

    what  it is: "input 'x'"
    """
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as e:  # of nested lists, and of what converts itself
        raise CompileError(
            Code.INPUT_ARRAY, f"{what}: no array can be made of it: {e}", hint="rows of equal length, as a NumPy array"
        ) from None


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of an .npz file by name; of an .npy file as "x". Raises CompileError."""
    try:
        with path.open("rb") as file:
            is_npy = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
            file.seek(0)
            if is_npy:
                return {_ONLY_INPUT: _read_array(file)}
            arrays = {}
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())  # zipfile reads no more than it says
                if unpacked > _LARGEST_BYTES:
                    raise _TooLargeError(unpacked)
                for entry in archive.infolist():
                    with archive.open(entry) as member:
                        arrays[entry.filename.removesuffix(".npy")] = _read_array(member)
            return arrays
    except IsADirectoryError:
        raise CompileError(Code.UNREADABLE_FILE, f"{quote(path)} is a folder, not an .npz file", hint=_HINT) from None
    except OSError as e:
        raise unreadable(path, e) from None
    except _TooLargeError as e:
        raise CompileError(
            Code.ARRAYS_TOO_LARGE,
            f"{quote(path)} unpacks to {e.args[0]} bytes, more than the {_LARGEST_BYTES} that are read at once",
            hint="split it",
        ) from None
    except MemoryError:
        raise CompileError(
            Code.ARRAYS_TOO_LARGE, f"{quote(path)} declares arrays larger than the memory", hint=_HINT
        ) from None
    except Exception:
        # A damaged file makes zipfile, its decompressors and NumPy's parser of headers raise nearly anything.
        raise CompileError(Code.NOT_ARRAYS, f"{quote(path)} is not an .npz file of numbers", hint=_HINT) from None


class _TooLargeError(Exception):
    """An archive that unpacks to this many bytes."""


def _read_array(file: IO[bytes]) -> NDArray[np.generic]:
    array: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
    if file.read(1):  # at the end of an archive's member, this is what checks its CRC
        raise ValueError("bytes after the array")
    return array


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an .npz file, whole or not at all; the same arrays give the same bytes. Raises CompileError."""
    content = BytesIO()
    # By hand: numpy.savez takes names as keywords, so that an output named "file" would be lost.
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            entry = BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    write_file(path, content.getvalue())
