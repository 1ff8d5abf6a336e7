"""Constants in a file beside the model: read where they are what the model says, else refused by name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import pefslc as package
from builders import ModelBuilder, normal
from pefslc.artifacts.sidecar import load_sidecar
from pefslc.console import cli
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend import import_model

WEIGHT = normal((4, 2, 3, 3), 0.5).astype(np.float32)


def network() -> ModelBuilder:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 6, 6)))
    weight = m.quant(m.node("Constant", value=onnx.numpy_helper.from_array(WEIGHT[:, :, :1, :1])))
    m.output(m.node("Conv", m.node("Conv", x, m.weight(WEIGHT)), m.quant(m.constant(normal((2, 4, 1, 1))))))
    m.output(m.node("Conv", x, weight))
    return m


def moved_out(folder: Path, change: Callable[[TensorProto], None] = lambda _: None) -> Path:
    """The network with every tensor of floats in weights.bin; `change` is made to the entry of the first weight."""
    model = network().build()
    tensors = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.name == "value")]
    data = bytearray(b"some bytes in front")
    for tensor in tensors:
        if len(tensor.raw_data) > 8:
            for key, value in {"location": "weights.bin", "offset": len(data), "length": len(tensor.raw_data)}.items():
                tensor.external_data.add(key=key, value=str(value))
            data += tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
    change(next(t for t in tensors if list(t.dims) == list(WEIGHT.shape)))
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(data)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def entry(key: str, value: str | None) -> Callable[[TensorProto], None]:
    def change(tensor: TensorProto) -> None:
        kept = {e.key: e.value for e in tensor.external_data if e.key != key} | ({} if value is None else {key: value})
        del tensor.external_data[:]
        for name, text in kept.items():
            tensor.external_data.add(key=name, value=text)

    return change


def refusal(path: Path) -> str:
    with pytest.raises(CompileError) as caught:
        import_model(path)
    text, *_ = [p.message for p in caught.value.problems if p.code.number == "PEF0106"]
    return text


@pytest.mark.parametrize("change", [lambda _: None, entry("length", None), entry("checksum", "0" * 40)])
def test_the_graph_is_that_of_the_self_contained_file(change: Callable[[TensorProto], None], tmp_path: Path) -> None:
    whole = network().save(tmp_path)
    assert import_model(moved_out(tmp_path / "apart", change)).ops == import_model(whole).ops


def test_a_file_that_onnx_saved_itself(tmp_path: Path) -> None:
    whole = network().save(tmp_path)
    path = tmp_path / "apart.onnx"
    onnx.save(
        network().build(), path, save_as_external_data=True, location="apart.onnx.data", size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    assert (tmp_path / "apart.onnx.data").stat().st_size > WEIGHT.nbytes
    assert import_model(path).ops == import_model(whole).ops


def test_four_bits_to_an_element(tmp_path: Path) -> None:
    def of(folder: Path, *, apart: bool) -> Path:
        m = ModelBuilder(opset=21)
        x = m.quant(m.input((1, 3)))
        tensor = onnx.helper.make_tensor("w", TensorProto.INT4, [3, 3], list(range(-4, 5)))
        m.initializers.append(tensor)
        m.output(m.node("MatMul", x, m.node("DequantizeLinear", "w", m.constant(0.5))))
        model = m.build()
        held = model.graph.initializer[0]
        if apart:
            packed = bytes(v & 0xFF for v in held.int32_data) or held.raw_data
            held.ClearField("int32_data")
            held.ClearField("raw_data")
            held.data_location = TensorProto.EXTERNAL
            held.external_data.add(key="location", value="w.bin")
            (folder / "w.bin").write_bytes(packed)
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    whole = import_model(of(tmp_path, apart=False))
    assert import_model(of(tmp_path, apart=True)).ops == whole.ops


REFUSED: dict[str, tuple[Callable[[TensorProto], None], str]] = {
    "absolute": (entry("location", "/etc/hostname"), "is stored outside the model's folder, in '/etc/hostname'"),
    "parent": (entry("location", "../weights.bin"), "is stored outside the model's folder"),
    "the folder": (entry("location", "."), "is stored outside the model's folder"),
    "below": (entry("location", "data/weights.bin"), "is stored outside the model's folder"),
    "other separator": (entry("location", "..\\weights.bin"), "is stored outside the model's folder"),
    "drive": (entry("location", "C:weights.bin"), "is stored outside the model's folder"),
    "no name": (entry("location", None), "is stored outside the model's folder, in ''"),
    "missing": (entry("location", "other.bin"), "is stored in 'other.bin', which is not beside the model"),
    "long name": (entry("location", "n" * 5000), "cannot be read (File name too long)"),
    "behind the end": (entry("offset", "400"), "lies at bytes 400 to 688 of 'weights.bin', which has"),
    "huge offset": (entry("offset", "9" * 18), "which has"),
    "longer than a number": (entry("offset", "9" * 19), "has offset '9999999999999999999' in its data file, not a num"),
    "negative offset": (entry("offset", "-4"), "has offset '-4' in its data file, not a number"),
    "other length": (entry("length", "284"), "has 288 bytes by its shape, 284 in its data file"),
    "lying shape": (lambda t: t.dims.__setitem__(0, 2**62), "declares shape [4611686018427387904, 2, 3, 3]"),
    "strings": (lambda t: setattr(t, "data_type", TensorProto.STRING), "as elements of type 8"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_as_the_model_says_is_refused(name: str, tmp_path: Path) -> None:
    change, message = REFUSED[name]
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    assert message in refusal(moved_out(tmp_path / "own", change))


def test_a_link_is_followed_only_within_the_folder(tmp_path: Path) -> None:
    path = moved_out(tmp_path / "own", entry("location", "link.bin"))
    link = tmp_path / "own" / "link.bin"
    link.symlink_to("weights.bin")
    import_model(path)
    link.unlink()
    (tmp_path / "outside.bin").write_bytes(bytes(10_000))
    link.symlink_to("../outside.bin")
    assert refusal(path).endswith("is stored in 'link.bin', a link to another folder than the model's")
    link.unlink()
    link.symlink_to("link.bin")
    assert "'link.bin'" in refusal(path) or "cannot be read" in refusal(path)


def test_a_folder_and_a_pipe_are_no_data(tmp_path: Path) -> None:
    path = moved_out(tmp_path / "own", entry("location", "pipe"))
    os.mkfifo(tmp_path / "own" / "pipe")
    assert refusal(path).endswith("is stored in 'pipe', which is no file")
    (tmp_path / "own" / "pipe").unlink()
    (tmp_path / "own" / "pipe").mkdir()
    assert "pipe" in refusal(path) or "directory" in refusal(path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = moved_out(tmp_path / "own", entry("location", "NAME"))
    path.write_bytes(path.read_bytes().replace(b"NAME", b"N\xff\xfeE"))
    assert "bytes that are not UTF-8" in refusal(path)


def limited(path: Path, count: int) -> int:
    """The total of what the tensors have in files, by the advice of a refusal, which works; the limit is `count`."""
    with pytest.raises(CompileError) as caught:
        import_model(path, most_data_bytes=count)
    (problem,) = [p for p in caught.value.problems if p.code.number == "PEF0106"]
    assert f"and those before it have more than {count} bytes in data files" in problem.message
    found = re.fullmatch(r"--data-limit 1 reads them all, ([\d,]+) bytes", problem.hint or "")
    assert found
    return int(found[1].replace(",", ""))


def test_all_data_together_is_limited(tmp_path: Path) -> None:
    """Many tensors may name the same bytes: a small file would fill the memory."""
    path = moved_out(tmp_path / "own")
    total = limited(path, WEIGHT.nbytes - 1)
    assert total > WEIGHT.nbytes
    assert limited(path, total - 1) == total
    assert import_model(path, most_data_bytes=total).ops


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_the_limit_is_an_option(command: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [command, str(moved_out(tmp_path / "own")), "--target", "c", "--data-limit"]
    assert cli.run([*arguments, "0.0000001"]) == 1
    assert "have more than 107 bytes in data files" in capfd.readouterr().err
    assert cli.run([*arguments, "1"]) == 0
    assert cli.run([*arguments, "0"]) == 2


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "1", True])
def test_what_is_no_limit_is_refused(limit: object, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="not a number above 0"):
        package.compile(moved_out(tmp_path / "own"), target="c", data_limit=limit)  # type: ignore[arg-type]


def test_a_missing_file_is_told_once(tmp_path: Path) -> None:
    path = moved_out(tmp_path / "own")
    (tmp_path / "own" / "weights.bin").unlink()
    text = refusal(path)
    assert re.fullmatch(
        r"tensor '.*' is stored in 'weights.bin', which is not beside the model; so with \d more tensors?", text
    )
    with pytest.raises(CompileError) as caught:
        import_model(path)
    assert len([p for p in caught.value.problems if p.code.number == "PEF0106"]) == 1


def test_the_sidecar_tells_models_apart_that_differ_in_their_data_file_alone(tmp_path: Path) -> None:
    path = moved_out(tmp_path / "own")
    data = tmp_path / "own" / "weights.bin"

    def sidecar() -> dict[str, str]:
        program = package.compile(path, target="c")
        assert program.sidecar.to_bytes() == package.compile(path, target="c").sidecar.to_bytes()
        program.save(tmp_path / "build")
        assert load_sidecar(tmp_path / "build" / program.sidecar.file_name) == program.sidecar
        return json.loads(program.sidecar.to_bytes())

    before = sidecar()
    data.write_bytes(b"SOME" + data.read_bytes()[4:])  # what no tensor reads
    assert sidecar() == before
    data.write_bytes(data.read_bytes()[:-4] + np.float32(0.25).tobytes())
    after = sidecar()
    assert after["source_sha256"] == before["source_sha256"]
    assert after["source_data_sha256"] != before["source_data_sha256"]
    whole = package.compile(network().save(tmp_path), target="c")
    assert "source_data_sha256" not in json.loads(whole.sidecar.to_bytes())
