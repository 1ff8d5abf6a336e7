"""The sidecar: it is read as it was written, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import Cli

import pefslc as package
from pefslc.artifacts.sidecar import load_sidecar
from pefslc.diagnostics.errors import CompileError


@pytest.fixture
def sidecar(model: Path, tmp_path: Path) -> Path:
    """Of mlp.onnx, its artifact beside it."""
    return package.compile(model, target="fake").save(tmp_path / "build")[-1]


def test_a_changed_bit_is_found(sidecar: Path) -> None:
    content, written = sidecar.read_bytes(), load_sidecar(sidecar)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        sidecar.write_bytes(changed)
        try:
            loaded = load_sidecar(sidecar)
        except CompileError:
            continue
        assert loaded == written, f"bit {place % 8} of byte {place} was not noticed"


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(files=[]),
        lambda c: c.update(target="c"),
        lambda c: c["inputs"][0].update(bits=4),
        lambda c: c["inputs"][0].update(bits=0),
        lambda c: c["inputs"][0].update(scale=["15/254"]),
        lambda c: c["inputs"][0].update(shape=[0, 4]),
        lambda c: c["outputs"][0].update(low=100),
        lambda c: c["details"].update(caller_arena=5),
        lambda c: c.pop("details"),
        lambda c: c.pop("sidecar_sha256"),
    ],
)
def test_an_edit_is_refused(
    pefslc: Cli, sidecar: Path, inputs: Path, edit: Callable[[dict[str, object]], object]
) -> None:
    content = json.loads(sidecar.read_text())
    edit(content)  # type: ignore[arg-type]
    sidecar.write_text(json.dumps(content))
    result = pefslc("run", sidecar, "--inputs", inputs)
    assert result.status == 1
    assert result.err == (
        "error[PEF0803]: 'mlp.fake.json' was changed after the compile\n  help: compile the model again\n"
    )


def test_the_layout_of_the_json_is_no_change(sidecar: Path) -> None:
    written = load_sidecar(sidecar)
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text())))
    assert load_sidecar(sidecar) == written


def test_a_changed_sidecar_is_replaced_by_the_next_compile(
    pefslc: Cli, sidecar: Path, model: Path, inputs: Path
) -> None:
    written = sidecar.read_bytes()
    sidecar.write_bytes(written.replace(b'"bits": 5', b'"bits": 4'))
    assert pefslc("run", sidecar, "--inputs", inputs).status == 1
    assert pefslc(model, "--target", "fake", "-o", sidecar.parent).status == 0
    assert sidecar.read_bytes() == written


@pytest.mark.parametrize("text", ["", "[]", "1", "{}", "[" * 100_000, '{"format": 2}', "\x00"])
def test_other_json_is_no_sidecar(sidecar: Path, text: str) -> None:
    sidecar.write_text(text)
    with pytest.raises(CompileError):
        load_sidecar(sidecar)


def test_an_older_format_says_so(sidecar: Path) -> None:
    sidecar.write_text('{"format": 1}')
    with pytest.raises(CompileError, match="has format '1', this pefslc reads 2"):
        load_sidecar(sidecar)


def test_a_folder_with_the_name_of_a_sidecar_is_passed_over(pefslc: Cli, sidecar: Path, inputs: Path) -> None:
    (sidecar.parent / "other.c.json").mkdir()
    assert pefslc("run", sidecar.parent, "--inputs", inputs).status == 0


@pytest.mark.parametrize("name", ["mlp.fake", "mlp.fake.json"])
def test_what_cannot_be_read_is_an_error(
    pefslc: Cli, sidecar: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == name:
            raise PermissionError(13, os.strerror(13), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for given in (sidecar, sidecar.parent):
        result = pefslc("run", given, "--inputs", inputs)
        assert result.status == 1
        assert result.err == (
            f"error[PEF0102]: cannot read '{sidecar.parent / name}': Permission denied\n"
            "  help: look at the path and its permissions\n"
        )
