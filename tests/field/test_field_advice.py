"""Files of tests/data/field that cannot be right as they are: what is said of them, and that following it works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import pefslc
from pefslc.console import cli

FIELD = Path(__file__).parents[1] / "data" / "field"
Console = pytest.CaptureFixture[str]


def refusal(path: Path, **options: object) -> list[pefslc.Problem]:
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(path, target="c", **options)  # type: ignore[arg-type]
    return list(caught.value.problems)


def hint(path: Path) -> str:
    """The advice of a refusal for one reason, without anything that only follows from it."""
    (text,) = {p.hint for p in refusal(path)}
    assert text is not None
    return text


def values(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def test_dynamic_quantization_is_one_message_and_the_float_model_compiles_as_it_says(tmp_path: Path) -> None:
    path = FIELD / "dynamic_quantization" / "mlp.onnx"
    advice = hint(path)
    assert advice.startswith("use quantize_static with QuantFormat.QDQ; or give the float model")
    (fmt,) = re.findall(r"--fmt (auto:\d+) --calibrate", advice)
    # The float model of it: each weight as its quantizer left it, and nothing in between.
    dynamic = onnx.load(path)
    constants = {t.name: numpy_helper.to_array(t) for t in dynamic.graph.initializer}
    nodes, made, names = list[onnx.NodeProto](), list[onnx.TensorProto](), dict[str, str]()
    for node in dynamic.graph.node:
        first = node.input[0]
        if node.op_type == "MatMulInteger":
            codes, parts = (
                node.input[1],
                (node.input[1].replace("_quantized", end) for end in ("_zero_point", "_scale")),
            )
            zero, scale = (constants[part] for part in parts)
            weight = (constants[codes].astype(np.float32) - zero) * scale
            made.append(numpy_helper.from_array(weight, f"{codes} float"))
            nodes.append(onnx.helper.make_node("MatMul", [names[first], f"{codes} float"], [node.output[0]]))
        elif node.op_type in ("DynamicQuantizeLinear", "Cast") or (node.op_type == "Mul" and first in names):
            names[node.output[0]] = names.get(first, first)
        elif node.op_type != "Mul":  # that of two scales
            kept = onnx.NodeProto.FromString(node.SerializeToString())
            kept.input[:] = [names.get(name, name) for name in node.input]
            nodes.append(kept)
    biases = [t for t in dynamic.graph.initializer if any(t.name in n.input for n in nodes)]
    graph = onnx.helper.make_graph(nodes, "float", dynamic.graph.input, dynamic.graph.output, [*biases, *made])
    opset = next(o for o in dynamic.opset_import if o.domain == "")
    floats = tmp_path / "float.onnx"
    floats.write_bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())
    given = values(path.with_suffix(".npz"))
    (x,) = (given[i.name] for i in dynamic.graph.input)
    program = pefslc.compile(floats, target="c", fmt=fmt, calibrate=x)
    assert program.exact
    distance = program.verify(x).distance
    assert distance is not None
    assert 0 < distance.worst.relative < 0.1


def test_an_unknown_operator_is_told_and_nothing_that_follows_from_it() -> None:
    problems = refusal(FIELD / "follow_up_errors" / "quant_lstm.onnx")
    assert [p.code.number for p in problems] == ["PEF0401"]
    assert "operator QuantLSTMCell of domain 'qonnx.custom_op.general' is not supported" in problems[0].message


def test_quantizers_without_their_domain_compile_when_they_have_it(tmp_path: Path) -> None:
    path = FIELD / "qonnx_domain_not_imported" / "default_domain.onnx"
    (domain,) = re.findall(r"give these nodes domain='([\w.]+)' with the onnx package, and save the file", hint(path))
    network = onnx.load(path)
    for node in network.graph.node:
        node.domain = domain if node.op_type == "Quant" else node.domain
    saved = tmp_path / "model.onnx"
    onnx.save(network, saved)
    for target in ("c", "tensil"):
        program = pefslc.compile(saved, target=target, require_exact=True)
        program.verify(path.with_suffix(".npz")).require()
        wanted = values(path.with_suffix(".npz"))
        x = wanted.pop("x")
        assert all(np.array_equal(program.run(x)[name], y) for name, y in wanted.items())


def test_an_open_input_gets_the_format_that_its_numbers_need_by_what_each_step_says(
    tmp_path: Path, capfd: Console
) -> None:
    """The first advice is an example, for numbers of 0 to 1. These are not, which is said, with a format that fits."""
    path = FIELD / "fmt_cannot_open_the_input" / "conv_reads_float.onnx"
    (option,) = re.findall(r"for numbers of 0 to 1, --input-fmt (\S+)", hint(path))
    command = [str(path), "--target", "c", "-o", str(tmp_path), "--verify", str(path.with_suffix(".npz"))]
    assert cli.run([*command, "--input-fmt", option]) == 1
    (better,) = re.findall(r"x: 82 % of its values saturate: .*; --input-fmt (\S+) holds them", capfd.readouterr().err)
    assert cli.run([*command, "--input-fmt", better]) == 0
    for target in ("c", "tensil"):
        program = pefslc.compile(path, target=target, input_fmt={"x": better.partition("=")[2]}, require_exact=True)
        wanted = values(path.with_suffix(".npz"))
        assert np.array_equal(program.run(wanted["x"])["t18"], wanted["t18"])


def test_a_format_that_saturates_is_said_and_the_one_that_is_advised_does_not(tmp_path: Path, capfd: Console) -> None:
    path = FIELD / "float_fmt_saturates_unsaid" / "model.onnx"
    command = [str(path), "--target", "c", "-o", str(tmp_path), "--verify", str(path.with_suffix(".npz"))]
    assert cli.run([*command, "--fmt", "Q4.12"]) == 0
    printed = capfd.readouterr()
    assert "every layer computes exactly what Q4.12 says; against the float model: outputs off by at most 462" in (
        printed.out
    )
    assert printed.err.startswith("warning: Q4.12 does not suit this model: outputs off by at most 462")
    (advised,) = re.findall(r"help: --fmt (\S+) holds all of that", printed.err)
    assert cli.run([*command, "--fmt", advised]) == 0
    printed = capfd.readouterr()
    assert "saturate" not in printed.err
    (error,) = re.findall(r"against the float model: outputs off by at most (\S+) of", printed.out)
    assert float(error) < 1


def test_ties_are_said_to_be_ties_and_without_them_all_is_equal(tmp_path: Path, capfd: Console) -> None:
    path = FIELD / "systematic_ties" / "average_then_quantize.onnx"
    command = [str(path), "--target", "c", "-o", str(tmp_path), "--verify"]
    assert cli.run([*command, str(path.with_suffix(".npz"))]) == 1
    printed = capfd.readouterr().err
    assert "38 of 48 differ" in printed
    assert "all within what rounding in float32 explains" in printed
    assert "or leave the array out" in printed
    given = values(path.with_suffix(".npz"))
    (name,) = (i.name for i in pefslc.load(path).inputs)
    np.savez(tmp_path / "x.npz", x=given[name])
    for target in ("c", "tensil"):
        command[2] = target
        assert cli.run([*command, str(tmp_path / "x.npz")]) == 0
        printed = capfd.readouterr().out
        assert "thresholds of 3/trunc_quant are next to sums that occur" in printed
        assert "48 of 48 outputs equal" in printed


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    path = FIELD / "torch_default_external_data" / "model.onnx"
    wanted = values(path.with_suffix(".npz"))
    x = wanted.pop("x")
    for target, fmt, most in (("c", "Q4.12", 0.001), ("tensil", "Q8.8", 0.05)):
        program = pefslc.compile(path, target=target, fmt=fmt)
        distance = program.verify(path.with_suffix(".npz")).distance
        assert distance is not None
        assert distance.worst.relative < most
        assert "source_data_sha256" in program.sidecar.to_bytes().decode()
    alone = tmp_path / "model.onnx"
    alone.write_bytes(path.read_bytes())
    assert "copy both into one folder" in hint(alone)
    (tmp_path / "model.onnx.data").write_bytes((path.parent / "model.onnx.data").read_bytes())
    found = pefslc.compile(alone, target="c", fmt="Q4.12").run(x)
    assert all(np.abs(found[name] - y).max() < 0.001 for name, y in wanted.items())
