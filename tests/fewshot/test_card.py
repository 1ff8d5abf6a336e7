"""The card beside a backbone: it is there where its network is, and what its readers take is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.sweep.card import read_card, write_network

CONTENT = {
    "description": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 1, 0.25]},
    "data": {"source": "glyphs", "size": 16, "images_per_class": 40, "seed": 0, "splits": ""},
    "data_sha256": "00",
}

# Writes a network into a folder in a child that ends at the N-th move of a file, as one that is killed does.
_ENDED = """
import json, os, sys
from pathlib import Path
from pefslc.fewshot.sweep.card import write_network
path, content, last = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
move, count = os.replace, 0
def counted(*args):
    global count
    count += 1
    if count == last:
        os._exit(9)
    move(*args)
os.replace = counted
write_network(path, b"new", content)
"""


@pytest.mark.parametrize("earlier", [False, True])
def test_a_network_has_its_card_wherever_the_writing_ends(tmp_path: Path, *, earlier: bool) -> None:
    for last in range(1, 9):
        folder = tmp_path / str(last)
        folder.mkdir()
        path = folder / "net.onnx"
        if earlier:
            write_network(path, b"old", CONTENT)
        status = subprocess.run(
            [sys.executable, "-c", _ENDED, str(path), json.dumps(CONTENT), str(last)], check=False
        ).returncode
        if status == 0:
            break
        assert status == 9
        assert not path.exists() or path.with_suffix(".json").exists()
        assert not path.exists() or path.read_bytes() == b"old" or read_card(path) is not None
        write_network(path, b"newer", CONTENT)
        assert read_card(path) is not None
        assert path.read_bytes() == b"newer"
        assert sorted(os.listdir(folder)) == ["net.json", "net.onnx"]
    assert last == (6 if earlier else 4), "every move was the last one once: that of the journal, and of each file"
    assert path.read_bytes() == b"new"


def test_only_a_network_and_a_card_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text("{}")
    with pytest.raises(CompileError, match="exists and is no card of a backbone"):
        write_network(tmp_path / "net.onnx", b"new", CONTENT)
    assert os.listdir(tmp_path) == ["net.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"description": None}, "description has no mean of three colours"),
        ({"description": {"mean": [0.5, 0.5, 0.5]}}, "description has no std of three colours"),
        ({"description": {"mean": [0.5, 0.5], "std": [1, 1, 1]}}, "description has no mean"),
        ({"description": {"mean": [0.5, 0.5, "a"], "std": [1, 1, 1]}}, "description has no mean"),
        ({"description": {"mean": [0.5, 0.5, float("nan")], "std": [1, 1, 1]}}, "description has no mean"),
        ({"description": {"mean": [0.5, 0.5, 0.5], "std": [1, 0, 1]}}, "description has no std"),
        ({"data": None}, "it has no data"),
        ({"data": []}, "it has no data"),
        ({"data": {**CONTENT["data"], "colours": 3}}, "data has 'colours'"),  # type: ignore[dict-item]
        ({"data": {"size": "16"}}, "size of data is '16'"),
        ({"data": {"size": True}}, "size of data is 'True'"),
        ({"data_sha256": None}, "it has no data_sha256"),
    ],
)
def test_a_card_that_lacks_what_is_read_is_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_network(path, b"net", {**CONTENT, **changes})  # type: ignore[dict-item]
    with pytest.raises(CompileError, match=message) as refused:
        read_card(path)
    assert refused.value.problems[0].code is Code.TRAINED_FILE
    write_network(path, b"net", CONTENT)
    card = read_card(path)
    assert card is not None
    assert card["data"] == CONTENT["data"]
