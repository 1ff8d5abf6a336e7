"""Writing artifacts: all or nothing, and nothing of anybody else's."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from cli_support import Cli, can_be_made_on_windows, quantized_mlp

from pefslc.diagnostics.errors import CompileError
from pefslc.driver.compiled_artifact import open_artifact
from pefslc.files.staging import publish


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_compile_replaces_what_a_compile_wrote(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    arguments = (model, "--target", "fake", "-o", tmp_path / "a")
    assert pefslc(*arguments).status == 0
    before = snapshot(tmp_path / "a")
    assert pefslc(*arguments, "--arch", "narrow", "--allow-overflow").status == 0
    assert snapshot(tmp_path / "a") != before


def test_what_only_the_last_compile_wrote_is_removed_if_nobody_changed_it(
    pefslc: Cli, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    arguments = (model, "--target", "c", "-o", folder)
    pefslc(*arguments, "--emit-main", "--arduino")
    first = set(snapshot(folder))
    (folder / "main.c").write_text("int main(void) { return 0; }\n")
    (folder / "notes.txt").write_text("mine")
    assert pefslc(*arguments).status == 0
    second = set(snapshot(folder))
    pefslc(model, "--target", "c", "-o", tmp_path / "b")
    assert {"mlp_arduino.zip", "Makefile", "main.c"} < first
    assert second == {"main.c", "notes.txt"} | set(snapshot(tmp_path / "b"))


@pytest.mark.parametrize("name", ["mlp.fake", "mlp.fake.json"])
def test_a_foreign_file_is_not_overwritten(pefslc: Cli, model: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / name).write_text("mine")
    result = pefslc(model, "--target", "fake", "-o", folder)
    assert result.status == 1
    assert result.err == (
        f"error[PEF0806]: '{folder / name}' exists and is not what a compile wrote\n"
        "  help: move it away, or choose another folder (-o)\n"
    )
    assert snapshot(folder) == {name: b"mine"}


def test_an_artifact_edited_by_hand_is_not_overwritten(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    pefslc(model, "--target", "fake", "-o", folder)
    with (folder / "mlp.fake").open("a") as file:
        file.write("// my change\n")
    before = snapshot(folder)
    assert pefslc(model, "--target", "fake", "-o", folder).status == 1
    assert snapshot(folder) == before


def test_a_symbolic_link_in_the_way_is_refused(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "mlp.fake").symlink_to(tmp_path / "elsewhere")
    result = pefslc(model, "--target", "fake", "-o", folder)
    assert result.status == 1
    assert "is in the way and is no plain file" in result.err
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_a_file_is_an_error(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "a")
    assert result.status == 1
    assert result.err.startswith(f"error[PEF0805]: cannot write into '{tmp_path / 'a'}': it is no folder\n")


def test_folders_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(CompileError, match="cannot write into"):
        publish(tmp_path / "mine" / "a" / "b", {"x" * 300: b""}, ("m.t.json", b"{}"))
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    assert not list((tmp_path / "mine").iterdir())


def test_no_folder_is_a_usage_error(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "fake", "-o", "")
    assert result.status == 2
    assert "-o '' is no folder; -o . is this one" in result.err


def test_models_share_a_folder(pefslc: Cli, model: Path, open_model: Path, tmp_path: Path) -> None:
    for path in (model, open_model):
        assert pefslc(path, "--target", "fake", "--fmt", "Q2.3", "-o", tmp_path / "a").status == 0
    assert sorted(snapshot(tmp_path / "a")) == ["mlp.fake", "mlp.fake.json", "open.fake", "open.fake.json"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("net_v1", "net.v1", "net_v1.c' belongs to 'net_v1.c.json'"),
        ("net v1", "net_v1", "net_v1.c.json' was compiled from 'net v1.onnx', not from 'net_v1.onnx'"),
    ],
)
def test_a_compile_does_not_replace_what_belongs_to_another_model(
    pefslc: Cli, tmp_path: Path, first: str, second: str, message: str
) -> None:
    folder = tmp_path / "a"
    for name, weight_bits in ((first, 5), (second, 4)):
        onnx.save(quantized_mlp(weight_bits=weight_bits), str(tmp_path / f"{name}.onnx"))
    assert pefslc(tmp_path / f"{first}.onnx", "--target", "c", "-o", folder).status == 0
    before = snapshot(folder)
    result = pefslc(tmp_path / f"{second}.onnx", "--target", "c", "-o", folder)
    assert result.status == 1
    assert f"{message}\n  help: choose another folder (-o), or another name for the model's file" in result.err
    assert snapshot(folder) == before
    onnx.save(quantized_mlp(weight_bits=4), str(tmp_path / f"{first}.onnx"))
    assert pefslc(tmp_path / f"{first}.onnx", "--target", "c", "-o", folder).status == 0
    assert snapshot(folder) != before


def test_one_model_for_two_targets_shares_a_folder(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    for target in ("c", "fake", "tensil", "c"):
        assert pefslc(model, "--target", target, "-o", tmp_path / "a").status == 0


def test_a_failure_while_staging_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, {"m.x": b"old"}, ("m.t.json", b"{}"))
    written: list[str] = []

    def full(path: Path, content: bytes) -> int:
        written.append(path.name)
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CompileError, match="No space left"):
        publish(tmp_path / "b", {"m.x": b"new", "m.y": b"new"}, ("m.t.json", b"{}"))
    assert not (tmp_path / "b").exists()


def test_the_sidecar_is_renamed_last(tmp_path: Path) -> None:
    paths = publish(tmp_path, {"z": b"1", "a": b"2"}, ("m.t.json", b"{}"))
    assert [p.name for p in paths] == ["z", "a", "m.t.json"]


@pytest.mark.parametrize("name", ["COM1", "con.v2", "nul", "Lpt9", "aux.tar.x", "prn ", "com¹", "a:b?", "net. ", "x."])
@pytest.mark.parametrize("target", ["c", "tensil", "fake"])
def test_no_target_writes_a_name_that_windows_reserves(
    pefslc: Cli, model: Path, tmp_path: Path, name: str, target: str
) -> None:
    """Every file can be made on Windows, and what is compiled can be found by its sidecar and run."""
    renamed = model.rename(tmp_path / f"{name}.onnx")
    result = pefslc(renamed, "--target", target, "-o", tmp_path / "a")
    assert result.status == 0, result.err
    for file in snapshot(tmp_path / "a"):
        assert can_be_made_on_windows(file), file
    assert open_artifact(tmp_path / "a")


def test_a_model_with_an_evil_name_compiles(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    evil = tmp_path / "; rm -rf $HOME.onnx"
    model.rename(evil)
    result = pefslc(evil, "--target", "fake", "-o", tmp_path / "a")
    assert result.status == 0, result.err
    assert sorted(snapshot(tmp_path / "a")) == ["_rm_-rf_HOME.fake", "_rm_-rf_HOME.fake.json"]
