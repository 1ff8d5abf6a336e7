"""--formats: layers, tensors and kinds of layers with formats of their own; and the file of `pefslc formats`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_support import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder, normal, random_network, without_quantizers
from pefslc.diagnostics.errors import CompileError
from pefslc.driver.format_file import named_formats, toml_text

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MODEL, DATA = EXAMPLES / "cnn_float.onnx", EXAMPLES / "cnn_float.npz"
QUANTIZED = EXAMPLES / "cnn_bnfold_q2_3.onnx"
X = np.random.default_rng(0).integers(-40, 40, (30, 2, 4, 4)) / 16
EVERYTHING = {"model": {"weights": "Q4.4", "activations": "Q4.4"}}


def small(folder: Path, *, norm: bool = False) -> Path:
    """image -> conv [-> BatchNorm] -> ReLU -> dense, of floats, with names as torch gives them."""
    m = ModelBuilder()
    x = m.node("Conv", m.input([1, 2, 4, 4], "image"), m.constant(normal((2, 2, 1, 1))), name="/c/Conv", output="conv")
    if norm:
        parameters = [m.constant(v) for v in (np.array([1.5, 0.5]), np.zeros(2), np.zeros(2), np.ones(2))]
        x = m.node("BatchNormalization", x, *parameters, name="/bn/BatchNormalization", output="bn")
    x = m.node("Relu", x, name="/act/Relu", output="relu")
    x = m.node("Flatten", x, name="/flat/Flatten", output="flat")
    m.output(m.node("Gemm", x, m.constant(normal((3, 32))), transB=1, name="/fc/Gemm", output="logits"))
    return m.save(folder)


def formats_of_layers(program: pefslc.Program) -> dict[str, tuple[str, str, str]]:
    return {row.layer: (row.input, row.weight, row.output) for row in program.layers}


def on_grid(x: NDArray[np.float64], bits: int, fraction: int, *, signed: bool = True) -> NDArray[np.float64]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return np.clip(np.rint(x * 2.0**fraction), low, high) / 2.0**fraction


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_each_place_has_its_own_format_and_the_files_compute_with_it(target: str, tmp_path: Path) -> None:
    formats = {
        "model": {"weights": "Q2.2", "rounding": "nearest"},
        "layers": {"/c/Conv": {"weights": "Q3.1"}, "act": {"activations": "UQ3.3"}},
        "tensors": {"image": "Q2.4"},
    }
    program = pefslc.compile(small(tmp_path), target=target, formats=formats)
    assert program.exact
    sums = on_grid(X, 6, 4).transpose(0, 2, 3, 1) @ on_grid(normal((2, 2, 1, 1)), 4, 1)[:, :, 0, 0].T
    stored = on_grid(np.maximum(sums, 0), 6, 3, signed=False).transpose(0, 3, 1, 2).reshape(len(X), -1)
    expected = stored @ on_grid(normal((3, 32)), 4, 2).T
    assert np.array_equal(program.run(X)["logits"], expected)


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, ("Q4.4", "Q4.4", "UQ4.4")),
        ({"kinds": {"Conv": {"weights": "Q2.5"}}}, ("Q4.4", "Q2.5", "UQ4.4")),
        ({"kinds": {"Conv": {"activations": "Q2.5"}}}, ("Q4.4", "Q4.4", "UQ2.5")),
        ({"kinds": {"Conv": {"activations": "Q2.5"}, "Relu": {"activations": "Q3.3"}}}, ("Q4.4", "Q4.4", "UQ3.3")),
        ({"kinds": {"Conv": {"weights": "Q2.5"}}, "layers": {"c": {"weights": "Q2.1"}}}, ("Q4.4", "Q2.1", "UQ4.4")),
        ({"layers": {"c": {"activations": "Q2.1"}}}, ("Q4.4", "Q4.4", "Q2.1")),
        ({"layers": {"c": {"activations": "Q2.1"}, "act": {"activations": "UQ1.1"}}}, ("Q4.4", "Q4.4", "UQ1.1")),
        ({"layers": {"act": {"activations": "UQ1.1"}}, "tensors": {"relu": "UQ2.7"}}, ("Q4.4", "Q4.4", "UQ2.7")),
        ({"tensors": {"relu": "Q2.7", "image": "UQ0.8"}}, ("UQ0.8", "Q4.4", "Q2.7")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("norm", [False, True])
def test_what_names_more_exactly_wins(
    tables: dict[str, Any], expected: tuple[str, str, str], norm: bool, tmp_path: Path
) -> None:
    """Names are those of the file, also where BatchNorm is folded into the convolution."""
    program = pefslc.compile(small(tmp_path, norm=norm), target="c", formats={**EVERYTHING, **tables})
    assert formats_of_layers(program)["bn" if norm else "c"] == expected


def test_weights_have_the_name_of_their_tensor_too(tmp_path: Path) -> None:
    path = small(tmp_path)
    weight = onnx.load(path).graph.node[0].input[1]
    program = pefslc.compile(path, target="c", formats={**EVERYTHING, "tensors": {weight: "Q2.6"}})
    assert formats_of_layers(program)["c"][1] == "Q2.6"


def test_a_byte_order_mark_at_the_start_of_the_file_is_no_part_of_it(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain.toml", tmp_path / "marked.toml"
    plain.write_text('[layers.fc]\nweights = "Q1.3"\n')
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    assert replace(named_formats(marked), source="") == replace(named_formats(plain), source="")


def test_fmt_is_for_what_the_file_does_not_name(tmp_path: Path) -> None:
    layers = {"layers": {"fc": {"weights": "Q1.3"}}}
    program = pefslc.compile(small(tmp_path), target="c", fmt="Q2.6", formats=layers)
    assert formats_of_layers(program) == {"c": ("Q2.6", "Q2.6", "UQ2.6"), "fc": ("UQ2.6", "Q1.3", "Q7.9")}


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_one_format_for_the_model_is_fmt(target: str, tmp_path: Path) -> None:
    path = small(tmp_path)
    by_fmt = pefslc.compile(path, target=target, fmt="Q2.3")
    by_name = pefslc.compile(path, target=target, formats={"model": {"weights": "Q2.3", "activations": "Q2.3"}})
    assert by_fmt.emission.files == by_name.emission.files


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize(
    "options",
    [("--fmt", "auto:8"), ("--fmt", "auto:5", "--calibration", "minmax"), ("--fmt", "Q2.3"), ("--fmt", "Q3.4")],
    ids=lambda o: o[1],
)
def test_the_file_of_a_float_model_gives_the_same_program_again(
    pefslc: Cli, tmp_path: Path, target: str, options: tuple[str, ...]
) -> None:
    if "auto" in options[1]:
        options = (*options, "--calibrate", str(DATA))
    written, first, again = tmp_path / "formats.toml", tmp_path / "first", tmp_path / "again"
    assert pefslc("formats", MODEL, "--target", target, *options, "-o", written).status == 0
    assert pefslc(MODEL, "--target", target, *options, "-o", first).status == 0
    ended = pefslc(MODEL, "--target", target, "--formats", written, "-o", again)
    assert ended.status == 0, ended.err
    assert "every layer computes exactly what the table of formats says" in ended.out
    sidecar = f"cnn_float.{target}.json"
    names = {p.name for p in first.iterdir()} - {sidecar}
    assert len(names) >= 2
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.parametrize("seed", range(6))
def test_so_does_that_of_any_network(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(without_quantizers(random_network(seed)), str(path))
    data = {i.name: normal((8, *i.value.type.shape[1:])) for i in pefslc.load(path).inputs}
    for options in ({"fmt": "auto:6", "calibrate": data}, {"fmt": "Q3.5"}):
        first = pefslc.compile(path, target="c", **options)  # type: ignore[arg-type]
        again = pefslc.compile(path, target="c", formats=first.formats)
        assert first.emission.files == again.emission.files


def test_weights_of_a_node_without_a_name_go_by_their_tensor(tmp_path: Path) -> None:
    model = onnx.load(small(tmp_path))
    for node in model.graph.node:
        node.name = ""
    path = tmp_path / "unnamed.onnx"
    onnx.save(model, str(path))
    first = pefslc.compile(path, target="c", fmt="auto:5", calibrate=X)
    assert first.formats.keys() == {"model", "tensors"}
    assert pefslc.compile(path, target="c", formats=first.formats).emission.files == first.emission.files


@pytest.mark.parametrize("name", ["cnn_q2_3", "concat_q3_4", "resnet8_q3_5", "cnn_w8pc_a8_float", "mlp_biasq_q3_4"])
def test_the_file_of_a_quantized_model_asserts_what_it_has(pefslc: Cli, name: str, tmp_path: Path) -> None:
    path, written = ROOT / f"tests/data/models/{name}.onnx", tmp_path / "formats.toml"
    assert pefslc("formats", path, "-o", written).status == 0
    for folder, options in (("plain", ()), ("named", ("--formats", written))):
        ended = pefslc(path, "--target", "c", *options, "-o", tmp_path / folder)
        assert ended.status == 0, ended.err
    plain, named = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("plain", "named"))
    assert plain == named
    tables = tomllib.loads(written.read_text())
    for table, entries in tables.items():
        for entry, said in list(entries.items())[:3]:
            other = {k: wider(v) for k, v in said.items()} if isinstance(said, dict) else wider(said)
            changed = tmp_path / "changed.toml"
            changed.write_text(toml_text({**tables, table: {**entries, entry: other}}))
            refused = pefslc("check", path, "--target", "c", "--formats", changed)
            assert refused.status == 1
            assert "error[PEF0502]" in refused.err
            has = said["weights"] if isinstance(said, dict) else said
            assert f"quantizer is {has}: " in refused.err


def wider(fmt: str) -> str:
    integer, fraction = fmt.split(".")
    return f"{integer}.{int(fraction) + 1}"


def test_scales_that_are_no_format_are_told_in_comments(pefslc: Cli) -> None:
    out = pefslc("formats", ROOT / "tests/data/models/cnn_w8pc_a8_float.onnx").out
    assert re.search(r"# '.*': 8 bits signed, \d+ scales, one per channel; no Qm.n\n", out)
    assert set(tomllib.loads(out)) <= {"tensors", "layers"}


def test_the_sign_counts_where_a_tensor_is_named_and_not_where_a_kind_is(pefslc: Cli, tmp_path: Path) -> None:
    formats = tmp_path / "formats.toml"
    formats.write_text('[model]\nweights = "Q2.3"\nactivations = "Q2.3"\n')
    assert pefslc("check", QUANTIZED, "--target", "c", "--formats", formats).status == 0
    formats.write_text('[layers]\n"b1/act" = { activations = "Q2.3" }\n')
    refused = pefslc("check", QUANTIZED, "--target", "c", "--formats", formats)
    assert refused.status == 1
    assert 'layers."b1/act".activations says Q2.3: ' in refused.err
    assert "this activation quantizer is UQ2.3: " in refused.err


def test_an_input_that_a_quantized_model_leaves_open_gets_the_format_that_names_it(open_model: Path) -> None:
    by_input_fmt = pefslc.compile(open_model, target="c", input_fmt="Q2.3")
    (name,) = [i.name for i in by_input_fmt.graph.inputs]
    program = pefslc.compile(open_model, target="c", formats={"tensors": {name: "Q2.3"}})
    assert program.emission.files == by_input_fmt.emission.files
    again = pefslc.compile(open_model, target="c", formats=program.formats)
    assert again.emission.files == program.emission.files


def test_widths_of_a_file_are_chosen_from_data_and_narrowed_to_fit(pefslc: Cli, tmp_path: Path) -> None:
    formats = tmp_path / "formats.toml"
    formats.write_text('[model]\nweights = "auto:8"\nactivations = "auto:8"\n[tensors]\ninput = "Q2.6"\n')
    arguments = (MODEL, "--target", "tensil", "--formats", formats, "-o", tmp_path / "build")
    refused = pefslc(*arguments)
    assert refused.status == 1
    assert "error[PEF0509]: model.weights = auto:8 chooses formats from data, and there is none" in refused.err
    ended = pefslc(*arguments, "--calibrate", DATA)
    assert ended.status == 0, ended.err
    assert "fewer bits than asked, so that every sum fits the target's accumulator: 5 formats\n" in ended.out
    (first,) = re.findall(r"^input  +(\S+)", ended.out, re.MULTILINE)
    assert first == "Q2.6"


def test_native_arithmetic_has_one_format_and_the_refusals_say_so(pefslc: Cli, tmp_path: Path) -> None:
    refused = pefslc("formats", MODEL, "--target", "tensil", "--fmt", "Q8.8")
    assert refused.status == 1
    assert "--fmt Q8.8 is the native arithmetic of --target tensil" in refused.err
    formats = tmp_path / "formats.toml"
    formats.write_text('[model]\nweights = "Q8.8"\nactivations = "Q8.8"\n')
    refused = pefslc(MODEL, "--target", "tensil", "--formats", formats, "-o", tmp_path / "build")
    assert refused.status == 1
    assert "error[PEF0504]" in refused.err
    assert "for that, --fmt Q8.8 alone" in refused.err
    assert pefslc(MODEL, "--target", "tensil", "--fmt", "Q8.8", "-o", tmp_path / "build").status == 0


@pytest.mark.parametrize(
    ("tables", "messages"),
    [
        ({"layer": {}}, ["unknown table: 'layer'", "did you mean layers?"]),
        ({"model": {"weight": "Q2.3"}}, ["unknown key of model: 'weight'", "did you mean weights?"]),
        ({"model": "Q2.3"}, ["model is 'Q2.3', no table"]),
        ({"layers": {"c": "Q2.3"}}, ["layers.c is 'Q2.3', no table", 'layers.c = { weights = "Q2.3" }']),
        ({"layers": {"c": {}}}, ["layers.c says nothing"]),
        ({"layers": {"c": {"weights": 8}}}, ["layers.c.weights is '8', no format"]),
        ({"layers": {"c": {"weights": "8"}}}, ["error[PEF0501]: layers.c.weights: '8' is not a format"]),
        ({"layers": {"c": {"rounding": "up"}}}, ["layers.c.rounding is 'up'", "one of nearest, balanced"]),
        ({"layers": {"/c/Con": {"weights": "Q2.3"}}}, ['layers."/c/Con" is for nothing', "did you mean '/c/Conv'?"]),
        ({"layers": {"act": {"weights": "Q2.3"}}}, ["layers.act.weights is for nothing: it has no weights"]),
        ({"layers": {"fc": {"activations": "Q2.3"}}}, ["layers.fc.activations is for nothing: its result has no"]),
        ({"kinds": {"conv": {"weights": "Q2.3"}}}, ["kinds.conv is for nothing", "did you mean 'Conv'?"]),
        ({"kinds": {"Relu": {"weights": "Q2.3"}}}, ["kinds.Relu.weights is for nothing"]),
        ({"tensors": {"imag": "Q2.3"}}, ["tensors.imag is for nothing: the model stores no", "did you mean 'image'?"]),
        ({"tensors": {"logits": "Q2.3"}}, ["tensors.logits is for nothing", "known: 'image', 'c0', 'relu', 'c1'"]),
        ({"model": {"weights": "UQ2.3"}}, ["model.weights: weights of a float model cannot be quantized to UQ2.3"]),
    ],
)  # fmt: skip
def test_entries_that_say_nothing_right_are_refused_each_with_its_place(
    tables: dict[str, Any], messages: list[str], tmp_path: Path
) -> None:
    with pytest.raises(CompileError) as refused:
        pefslc.compile(small(tmp_path), target="c", fmt="Q3.4", formats=tables)
    for message in messages:
        assert message in str(refused.value)
    assert len({problem.message for problem in refused.value.problems}) == 1


def test_a_place_of_a_float_model_without_a_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as refused:
        pefslc.compile(small(tmp_path), target="c", formats={"model": {"weights": "Q2.3"}, "tensors": {"relu": "Q2.3"}})
    assert str(refused.value).startswith("error[PEF0510]: nothing gives tensor 'image' a format")
    assert len(refused.value.problems) == 1
    pefslc.compile(small(tmp_path), target="c", input_fmt="Q2.3", formats={**EVERYTHING})
    with pytest.raises(CompileError, match="by --input-fmt and one by --formats"):
        pefslc.compile(
            small(tmp_path), target="c", input_fmt="Q2.3", formats={**EVERYTHING, "tensors": {"image": "Q2.3"}}
        )


@pytest.mark.parametrize("where", ["model", "tensors"])
def test_widths_are_refused_where_the_model_has_formats(where: str, open_model: Path) -> None:
    tables = {"model": {"model": {"weights": "auto:8"}}, "tensors": {"tensors": {"x": "auto:8"}}}[where]
    with pytest.raises(CompileError, match=r"PEF0509\]: .*auto:8 chooses the formats of float models"):
        pefslc.compile(open_model, target="c", fmt="Q2.3", formats=tables)


def test_a_file_that_is_no_toml_or_not_there_is_told(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "formats.toml"
    broken.write_text("[layers]\n/b1/Conv = 3\n")
    refused = pefslc("check", model, "--target", "c", "--formats", broken)
    assert (refused.status, refused.err.splitlines()[-1]) == (
        1, '  help: a name with dots or slashes is quoted: "/b1/conv/Conv"'
    )  # fmt: skip
    assert "line 2" in refused.err
    missing = pefslc("check", model, "--target", "c", "--formats", tmp_path / "format.toml")
    assert (missing.status, "did you mean" in missing.err) == (2, True)
    both = pefslc("check", model, "--target", "c", "--fmt", "Q2.3", "--requantize", "--formats", broken)
    assert (both.status, "--requantize changes a model to the one format of --fmt" in both.err) == (2, True)


def test_formats_replaces_only_what_it_wrote(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    written = tmp_path / "formats.toml"
    assert [pefslc("formats", model, "-o", written).status for _ in range(2)] == [0, 0]
    written.write_text("mine = 1\n")
    refused = pefslc("formats", model, "-o", written)
    assert (refused.status, written.read_text()) == (1, "mine = 1\n")
    assert "error[PEF0806]" in refused.err


def test_the_files_of_the_page_are_what_is_written_and_work(pefslc: Cli, tmp_path: Path) -> None:
    first, second = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/formats-by-name.md").read_text(), re.DOTALL)
    out = pefslc("formats", MODEL, "--fmt", "auto:8", "--calibrate", DATA, "--target", "tensil").out
    assert out.split("\n\n", 1)[1] == first
    formats = tmp_path / "formats.toml"
    formats.write_text(second)
    for target in ("c", "tensil"):
        assert pefslc("check", MODEL, "--target", target, "--formats", formats, "--calibrate", DATA).status == 0


NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@settings(max_examples=40)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, NAMES | st.dictionaries(NAMES, NAMES, max_size=3), min_size=1)))
def test_what_is_written_reads_back(tables: dict[str, dict[str, Any]]) -> None:
    assert tomllib.loads(toml_text(tables)) == tables


@pytest.mark.parametrize("given_formats", [3, None, ["Q2.3"]])
def test_what_is_no_file_and_no_dictionary_is_told(given_formats: object) -> None:
    with pytest.raises(CompileError, match=r"PEF0510\]: formats is '.*', no file and no dictionary"):
        named_formats(given_formats)  # type: ignore[arg-type]
