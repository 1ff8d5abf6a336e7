"""Files of arrays: whatever is wrong with one is an error of the file, not a fault of ours."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pefslc.diagnostics.errors import CompileError
from pefslc.files.arrays import read_arrays, write_arrays


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz(member: bytes, name: str = "x.npy", compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr(zipfile.ZipInfo(name), member, compression)
    return content.getvalue()


def encrypted(archive: bytes) -> bytes:
    content = bytearray(archive)
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


GOOD = npy(np.arange(100.0).reshape(10, 10))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_changed_byte_is_found(tmp_path: Path, compression: int) -> None:
    """Where it matters: in the member and its size; the date of a member may be any."""
    content = npz(GOOD, compression=compression)
    path = tmp_path / "x.npz"
    refused = 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        try:
            arrays = read_arrays(path)
        except CompileError as e:
            refused += str(path) in str(e)
        else:
            assert all((a == np.arange(100.0).reshape(10, 10)).all() for a in arrays.values())
    assert refused > len(content) // 2


@pytest.mark.parametrize(
    "content",
    [
        encrypted(npz(GOOD)),
        npz(GOOD.replace(b"(10, 10)", b"(10, 10,")),
        npz(GOOD.replace(b"(10, 10)", b"((((((((")),
        npz(GOOD.replace(b"(10, 10)", b"(9,  10)")),
        npz(b"a text", "notes.txt"),
        npz(b"", "folder/"),
        npz(GOOD[:-1]),
        npz(GOOD + b"1"),
        GOOD[:-1],
        GOOD[:9],
        GOOD.replace(b"(10, 10)", b"(10, 10,"),
        b"",
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(CompileError, match=r"x\.npz' is not an .npz file of numbers"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("wrap", [npz, bytes])
def test_a_shape_beyond_the_memory_is_refused(tmp_path: Path, wrap: type[bytes]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50, 10)})
    (tmp_path / "x.npz").write_bytes(wrap(header.getvalue() + bytes(80)))
    with pytest.raises(CompileError, match=r"x\.npz' declares arrays larger than the memory"):
        read_arrays(tmp_path / "x.npz")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_arrays(tmp_path / "y.npz", {"file": np.arange(3), "a/b": np.zeros(())})
    arrays = read_arrays(tmp_path / "y.npz")
    assert list(arrays) == ["file", "a/b"]
    assert (arrays["file"] == np.arange(3)).all()


def test_a_zip_that_unpacks_to_more_than_any_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"")
        entry = archive.infolist()[0]
        entry.file_size = 3 << 30  # what the directory, written at the end, then says
    with pytest.raises(
        CompileError, match="unpacks to 3221225472 bytes, more than the 2147483648 that are read at once"
    ):
        read_arrays(path)
