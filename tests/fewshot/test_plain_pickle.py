"""Plain data comes out of a pickle as it went in; what would be executed is refused."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data import plain_pickle
from pefslc.fewshot.data.plain_pickle import array_of, field, load_plain, texts_of

PLAIN = {
    "a": [1, -2.5, None, True, "ä"],
    b"b": (b"\x00\xff", b"", bytearray(b"\x80"), 10**30),
    "c": OrderedDict(x={"y": ()}),
}
ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    np.array([[1.5, -2.25]], ">f4"),
    np.array(5, np.int64),
    np.zeros((0, 3), np.int32),
    np.array([True, False]),
    np.array(["mug", "ä"]),
    np.array([b"mug", b"cup"]),
]


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def load(content: bytes, folder: Path) -> object:
    path = folder / "data.pkl"
    path.write_bytes(content)
    return load_plain(path)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(protocol: int, tmp_path: Path) -> None:
    assert load(pickle.dumps(PLAIN, protocol), tmp_path) == PLAIN


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{list(a.shape)}")
def test_arrays_come_back(array: np.ndarray, protocol: int, tmp_path: Path) -> None:
    record = field(load(pickle.dumps({"data": array}, protocol), tmp_path), "data", tmp_path)
    found = array_of(record, tmp_path, "data")
    assert found.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    assert np.array_equal(found, array)


@pytest.mark.parametrize("protocol", range(6))
def test_numbers_of_numpy_and_lists_of_arrays_come_back(protocol: int, tmp_path: Path) -> None:
    content = [[np.int64(3), np.float32(0.5)], [np.arange(2), np.arange(2)], np.array([[1], "x", None], object)]
    found = load(pickle.dumps(content, protocol), tmp_path)
    assert isinstance(found, list)
    assert found[0] == [3, 0.5]
    assert array_of(found[1], tmp_path, "rows").tolist() == [[0, 1], [0, 1]]
    assert array_of(found[2], tmp_path, "objects").tolist() == [[1], "x", None]


def test_a_file_of_python_2_is_read(tmp_path: Path) -> None:
    """Its texts are bytes, its arrays hold their bytes as a text, and NumPy had other names."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I2\ntcnumpy\ndtype\n(U\x02u1I0\nI1\ntR"
        b"(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\nU\x02\x07\xfftb"
    )
    found = load(b"\x80\x02}(U\x04dataq\x00" + array + b"U\x05namesq\x01]U\x03\xe4pfau.", tmp_path)
    assert array_of(field(found, "data", tmp_path), tmp_path, "data").tolist() == [7, 255]
    assert texts_of(field(found, "names", tmp_path), tmp_path, "names") == ["äpf"]


MARK: list[object] = []


def executed(*arguments: object) -> None:
    MARK.append(arguments)


HOSTILE = {
    "own function": Calls(executed, 1),
    "system": Calls(__import__("os").system, "exit 3"),
    "eval": Calls(eval, "1"),
    "getattr": Calls(getattr, {}, "pop"),
    "import": Calls(__import__, "this"),
    "numpy.load": Calls(np.load, "x", None, True),
    "partial": Calls(__import__("functools").partial, print),
    "complex": Calls(complex, 1, 2),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_a_file_would_call_is_refused_and_not_called(hostile: Calls, protocol: int, tmp_path: Path) -> None:
    content = pickle.dumps([np.arange(3), {"deep": hostile}], protocol)
    with pytest.raises(CompileError, match="holds more than plain data: it calls '") as e:
        load(content, tmp_path)
    assert e.value.problems[0].code is Code.UNSAFE_FILE
    assert "nothing of it was executed" in str(e.value)
    assert not MARK


def test_the_hostile_files_would_do_something() -> None:
    """Or the test above would pass for files that do nothing."""
    try:
        pickle.loads(pickle.dumps(HOSTILE["own function"]))
        assert MARK == [(1,)]
    finally:
        MARK.clear()


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy.core.multiarray\nscalar\n(N}X\x0c\x00\x00\x00__defaults__(K\x01tstb.",  # defaults of a function
        b"cnumpy.core.multiarray\nscalar\n}X\x01\x00\x00\x00xK\x01sb.",
        b"c_codecs\nencode\n(N}X\x0c\x00\x00\x00__setstate__K\x01stb.",
        b"cnumpy\ndtype\n(N}X\x04\x00\x00\x00codeX\x02\x00\x00\x00u1stb.",
        b"cnumpy\nndarray\n}X\x07\x00\x00\x00checkedK\x01sb.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",  # another codec would be imported
        b"c_codecs\nencode\n(K\x01tR.",
        b"cbuiltins\nbytearray\n(K\x07tR.",  # as many zeros as a number says
    ],
)
def test_what_a_file_would_change_in_this_program_is_refused(content: bytes, tmp_path: Path) -> None:
    before = {name: dict(vars(getattr(plain_pickle, name))) for name in ("_Array", "_DataType", "_Scalar", "_Encoded")}
    with pytest.raises(CompileError) as e:
        load(content, tmp_path)
    assert e.value.problems[0].code is Code.DATA_FILE
    assert before == {name: dict(vars(getattr(plain_pickle, name))) for name in before}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ((1, (3,), "u1", False, b"ab"), "cannot be read"),  # too few bytes
        ((1, (-1,), "u1", False, b"ab"), "negative"),
        ((1, (2,), "O", False, b"abcdefghijklmnop"), "no list"),  # bytes as addresses of objects
        ((1, (2,), "V8", False, b"abcdefghijklmnop"), "are not read"),
        ((1, (2,), "M8", False, b"abcdefghijklmnop"), "are not read"),
        ((1, ("x",), "u1", False, b"ab"), "cannot be read"),
        ((1, None, "u1", False, b"ab"), "cannot be read"),
        ((1, (2,), "u1", False, [1, 2]), "no bytes"),
        ((1, (10**30,), "u1", False, b"ab"), "cannot be read"),
    ],
)
def test_an_array_that_contradicts_itself_is_refused(state: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    record = plain_pickle._Array()
    record.__setstate__((*state[:2], plain_pickle._DataType(state[2]), *state[3:]))
    with pytest.raises(CompileError, match=message) as e:
        array_of(record, tmp_path, "data")
    assert e.value.problems[0].code is Code.DATA_FILE


def test_a_file_cut_or_flipped_anywhere_is_refused_or_plain(tmp_path: Path) -> None:
    whole = pickle.dumps({"data": np.arange(5), "labels": [np.int64(1), "x"]}, 4)
    cut = 0
    for length in range(len(whole)):
        with pytest.raises(CompileError):
            load(whole[:length], tmp_path)
        cut += 1
    assert cut == len(whole)
    refusals = 0
    for position in range(len(whole)):
        for flip in (1, 128):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            try:
                found = load(bytes(damaged), tmp_path)
                array_of(field(found, "data", tmp_path), tmp_path, "data")
            except CompileError as e:
                refusals += e.problems[0].code in (Code.DATA_FILE, Code.UNSAFE_FILE)
    assert refusals > len(whole) // 2


def test_what_is_no_array_and_no_text_is_said(tmp_path: Path) -> None:
    for value in ({}, None, "x", [[1], [2, 3]], [object]):
        with pytest.raises(CompileError, match="labels"):
            array_of(value, tmp_path, "labels")
    for value in ({}, [1], "x", None):
        with pytest.raises(CompileError, match="names is no list of texts"):
            texts_of(value, tmp_path, "names")
    with pytest.raises(CompileError, match="has no field 'data'"):
        field([], "data", tmp_path)


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no such file"):
        load_plain(tmp_path / "x.pkl")
    with pytest.raises(CompileError, match="cannot read"):
        load_plain(tmp_path)
