"""Files and graphs that are refused whatever their operators are, and the exact words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from builders import ModelBuilder, random_network, refusal_of
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend import import_model

SHAPE = (1, 2, 4, 4)
ONES = np.ones((2, 2, 1, 1))


@pytest.mark.parametrize(
    ("shape", "code", "message"),
    [
        (
            ["N", 2, 4, 4],
            "PEF0206",
            "the input's shape ['N', 2, 4, 4] is not fixed\n  at:   (input), tensor 'x'\n"
            "  help: export without dynamic_axes, or give the open sizes: --batch 1 or --input-shape x=1,2,4,4",
        ),
        ([1, 0, 4, 4], "PEF0208", "shape [1, 0, 4, 4] has an empty axis\n  at:   (input), tensor 'x'"),
        (
            [1, 3, 10**6, 10**6],
            "PEF0209",
            "a tensor of shape [1, 3, 1000000, 1000000] is too large\n  at:   (input), tensor 'x'\n"
            "  help: at most 2^24 elements are supported",
        ),
        (
            None,
            "PEF0206",
            "the input has no shape\n  at:   (input), tensor 'x'\n  help: export with an example of fixed "
            "shape, or give it: --input-shape x=1,3,32,32",
        ),
    ],
)
def test_inputs_without_a_fixed_shape(shape: list[int | str] | None, code: str, message: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Relu", m.input(shape)))
    assert refusal_of(m, tmp_path) == f"error[{code}]: {message}"


def test_an_input_of_integers(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Relu", m.input(SHAPE, dtype=TensorProto.INT64)))
    assert refusal_of(m, tmp_path) == (
        "error[PEF0207]: the input holds int64, not floats\n  at:   (input), tensor 'x'\n  help: make it floats, or "
        "one of int8, uint8, int16, uint16, int32, uint32 that a DequantizeLinear or a Cast reads"
    )


@pytest.mark.parametrize("opset", [8, 26])
def test_opsets_outside_the_supported_ones(opset: int, tmp_path: Path) -> None:
    m = ModelBuilder(opset=opset)
    m.output(m.node("Relu", m.input(SHAPE)))
    assert refusal_of(m, tmp_path) == (
        f"error[PEF0105]: ONNX opset {opset} is not supported\n"
        "  help: export with opset_version between 9 and 25, for example 13"
    )


def test_an_unknown_version_of_a_domain(tmp_path: Path) -> None:
    m = ModelBuilder(quant_version=57)
    m.output(m.quant(m.input(SHAPE)))
    assert (
        refusal_of(m, tmp_path)
        == "error[PEF0105]: version 57 of domain 'qonnx.custom_op.general' is unknown\n  help: known: 1, 2"
    )


def test_a_cycle(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.input(SHAPE)
    m.node("Add", x, "b", output="a")
    m.output(m.node("Relu", "a", output="b"))
    assert refusal_of(m, tmp_path) == (
        "error[PEF0202]: the graph has a cycle\n  help: an ONNX graph must be acyclic: export the model again"
    )


def test_names_that_are_not_unique_or_not_there(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.input(SHAPE)
    m.constant(1.0, "c")
    m.constant(2.0, "c")
    m.node("Relu", x, output="r")
    m.node("Relu", x, output="r")
    m.node("Relu", "nowhere", output="s", name="n")
    m.output("never")
    assert refusal_of(m, tmp_path).split("\n") == [
        "error[PEF0203]: 2 initializers are named 'c'",
        "  help: tensor names must be unique",
        "error[PEF0203]: 2 nodes write tensor 'r'",
        "  help: tensor names must be unique",
        "error[PEF0204]: output 'never' is produced by no node",
        "  help: export the model again",
        "error[PEF0204]: input 'nowhere' is produced by no node",
        "  at:   n (Relu)",
        "  help: export the model again",
    ]


def test_a_tensor_that_lies_about_its_size(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Conv", m.input(SHAPE), m.weight(ONES)))
    model = m.build()
    model.graph.initializer[0].dims[0] = 2**62
    assert "declares shape [4611686018427387904, 2, 1, 1] but holds 16 bytes" in refusal_of(model, tmp_path)


def test_an_output_declared_with_another_shape(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Relu", m.input(SHAPE), name="n", output="y"), [1, 3])
    assert refusal_of(m, tmp_path) == (
        "error[PEF0210]: the output is declared [1, 3] but computed [1, 2, 4, 4]\n"
        "  at:   n (Relu), tensor 'y'\n"
        "  help: export the model again"
    )


def test_control_flow(tmp_path: Path) -> None:
    m = ModelBuilder()
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [], [])
    m.output(m.node("If", m.input(SHAPE), name="i", then_branch=branch, else_branch=branch))
    assert "error[PEF0205]: control flow (If with a subgraph)\n  at:   i (If)" in refusal_of(m, tmp_path)


def test_files_that_are_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.onnx").write_bytes(b"")
    Path("garbage.onnx").write_bytes(bytes(range(255, 0, -1)))
    expected = {
        ".": "error[PEF0102]: '.' is a folder, not a model\n  help: give the .onnx file",
        "missing.onnx": "error[PEF0101]: no such file: 'missing.onnx'\n  help: look at the path",
        "empty.onnx": "error[PEF0103]: the file holds no model\n"
        "  help: it is empty or not ONNX: export the model again",
        "garbage.onnx": "error[PEF0103]: 'garbage.onnx' is not an ONNX file\n"
        "  help: it may be cut short: export or copy it again",
    }
    for name, message in expected.items():
        with pytest.raises(CompileError) as caught:
            import_model(Path(name))
        assert str(caught.value) == message


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Relu", m.input(SHAPE), name="NAME"))
    path = m.save(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"NAME", b"N\xff\xfeE"))
    with pytest.raises(CompileError, match=r"the name b'N\\xff\\xfeE' is not UTF-8"):
        import_model(path)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_raise_nothing_but_compile_errors(seed: int, tmp_path: Path) -> None:
    """Random bytes of a valid file replaced."""
    rng = np.random.default_rng(seed)
    original = random_network(seed).SerializeToString()
    path = tmp_path / "model.onnx"
    refused = 0
    for _ in range(120):
        damaged = bytearray(original)
        for position in rng.integers(0, len(damaged), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            import_model(path)
        except CompileError:
            refused += 1
    assert refused > 30
