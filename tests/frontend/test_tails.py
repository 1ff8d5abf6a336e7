"""A classifier's last step is the host's: codes of the logits from the device, the function of them in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ends import host_module_of
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import pefslc
from builders import QONNX, ModelBuilder, normal
from pefslc.driver.compiled_artifact import open_artifact
from pefslc.ir.interpret import map_codes
from pefslc.ir.parse import parse_graph

TAILS: dict[str, tuple[str, dict[str, object]]] = {
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": 1}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "arg_max": ("ArgMax", {"axis": 1, "keepdims": 0}),
    "arg_max_last": ("ArgMax", {"axis": -1, "select_last_index": 1}),
}


def classifier(folder: Path, op: str, attrs: dict[str, object], *, opset: int = 13, after: str = "") -> Path:
    """x [1, 6] -> Quant -> MatMul -> + bias -> op: 5 logits, of which the last two are always equal."""
    m = ModelBuilder(opset=opset)
    kernel = normal((6, 5), 0.5)
    kernel[:, 4] = kernel[:, 3]
    y = m.node("MatMul", m.quant(m.input([1, 6], "x"), 0.125, 5), m.weight(kernel, 0.25, 4))
    y = m.node(op, m.node("Add", y, m.constant([0.5, 0.25, -0.125, 1.0, 1.0])), **attrs)
    if after:
        y = m.node(after, y, **({"to": TensorProto.INT32} if after == "Cast" else {}))
    m.output(y)
    return m.save(folder)


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    """ONNX's own reference: the quantizers taken out, their values put in; float32 holds all before the end."""
    model = onnx.load(path)
    floats = ModelBuilder()
    quant = {n.output[0]: n for n in model.graph.node if n.domain == QONNX}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    (weight,) = (n for n in quant.values() if n.input[0] in constants)
    (entry,) = (n for n in quant.values() if n.input[0] == "x")
    values = np.clip(np.rint(constants[weight.input[0]] / 0.25), -8, 7) * 0.25
    nodes = [n for n in model.graph.node if n.domain != QONNX]
    initializers = [*model.graph.initializer, onnx.numpy_helper.from_array(values.astype(np.float32), weight.output[0])]
    inputs = [helper.make_tensor_value_info(entry.output[0], TensorProto.FLOAT, [1, 6])]
    proto = helper.make_graph(nodes, "g", inputs, model.graph.output, initializers)
    evaluator = ReferenceEvaluator(helper.make_model(proto, opset_imports=[helper.make_opsetid("", floats.opset)]))
    codes = (np.clip(np.rint(x / 0.125), -16, 15) * 0.125).astype(np.float32)
    return np.concatenate([evaluator.run(None, {entry.output[0]: row[None]})[0] for row in codes])


X = np.random.default_rng(2).integers(-32, 32, (40, 6)) / 16


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize("name", TAILS)
def test_the_host_computes_what_the_model_ends_with(tmp_path: Path, name: str, target: str) -> None:
    path = classifier(tmp_path, *TAILS[name])
    wanted = reference(path, X)
    program = pefslc.compile(path, target=target, check_passes=True)
    (found,) = program.run(X).values()
    (evaluated,) = pefslc.load(path).run(X).values()
    # The reference computes the last function in float32. An index is exact.
    allowed = 0 if name.startswith("arg_max") else 4e-7
    for result in (found, evaluated):
        assert result.shape == wanted.shape
        assert np.abs(result - wanted).max() <= allowed * max(1.0, np.abs(wanted).max())
    assert len(np.unique(found)) > 2
    # Nothing else is computed where artifacts are run, by the sidecar or by the board's module.
    program.save(tmp_path / "build")
    (again,) = open_artifact(tmp_path / "build").run({"x": X}).values()
    assert (again == found).all()
    assert parse_graph(str(program.graph)) == program.graph
    if target == "tensil":
        io = host_module_of(program)
        (output,) = program.graph.outputs
        io["codes_from_driver"] = lambda codes: {output.name: codes}
        for codes, result in zip(program.run(X, codes=True)[output.name], found, strict=True):
            assert (io["from_driver"](codes[None])[output.name] == result[None]).all()


def test_equal_logits_have_the_first_or_the_last_index(tmp_path: Path) -> None:
    first, last = (
        pefslc.compile(classifier(tmp_path, *TAILS[name]), target="c") for name in ("arg_max", "arg_max_last")
    )
    (output,) = first.graph.outputs
    logits = map_codes(output.map, first.run(X, codes=True)[output.name])  # dyadic: exact
    assert ((logits == logits.max(axis=1, keepdims=True)).sum(axis=1) > 1).any()
    assert (first.run(X)[output.name] == logits.argmax(axis=1)).all()
    assert (last.run(X)[output.name] == 4 - logits[:, ::-1].argmax(axis=1)[:, None]).all()


@pytest.mark.parametrize("zero_point", [0, 5])
def test_an_index_of_integers_is_that_of_their_values(tmp_path: Path, zero_point: int) -> None:
    """QOperator files end so. Many logits saturate: the first of equal codes is the index."""
    m = ModelBuilder()
    y = m.node("MatMul", m.quant(m.input([1, 6], "x"), 0.125, 5), m.weight(normal((6, 5), 0.5), 0.25, 4))
    codes = m.node("QuantizeLinear", y, m.constant(2**-7), m.constant(zero_point, dtype=np.int8))
    m.outputs.append(helper.make_tensor_value_info("index", TensorProto.INT64, [1]))
    m.node("ArgMax", codes, axis=1, keepdims=0, output="index")
    program = pefslc.compile(m.save(tmp_path), target="c")
    x = np.clip(np.rint(X / 0.125), -16, 15) * 0.125
    logits = x @ (np.clip(np.rint(normal((6, 5), 0.5) / 0.25), -8, 7) * 0.25)
    codes_of = np.clip(np.rint(logits * 2**7) + zero_point, -128, 127)
    (found,) = program.run(X).values()
    np.testing.assert_array_equal(found, codes_of.argmax(axis=1))
    assert (codes_of.argmax(axis=1) != logits.argmax(axis=1)).any()


@pytest.mark.parametrize("after", ["Identity", "Cast"])
def test_what_passes_indices_on_ends_the_network_too(tmp_path: Path, after: str) -> None:
    (plain,) = pefslc.compile(classifier(tmp_path, *TAILS["arg_max"]), target="c").run(X).values()
    (found,) = pefslc.compile(classifier(tmp_path, *TAILS["arg_max"], after=after), target="c").run(X).values()
    assert (found == plain).all()


def test_verification_compares_the_codes_and_the_result(tmp_path: Path) -> None:
    path = classifier(tmp_path, *TAILS["softmax"])
    program, wanted = pefslc.compile(path, target="c"), reference(path, X)
    found = program.verify({"x": X, "y_ref64": wanted})
    found.require()
    assert "softmax within 1e-05" in str(found)
    assert "c and interpreter" in str(found)
    wanted = wanted.copy()
    wanted[3, 1] += 1e-4
    with pytest.raises(pefslc.CompileError, match="1 of 200 differ"):
        program.verify({"x": X, "y_ref64": wanted}).require()


def test_the_header_says_what_the_host_computes(tmp_path: Path) -> None:
    program = pefslc.compile(classifier(tmp_path, *TAILS["softmax"]), target="c")
    header = next(text for name, text in program.emission.files.items() if name == "model.h").decode()
    assert "then softmax of the values along axis 1" in " ".join(header.replace(" *", " ").split())


@pytest.mark.parametrize("op", ["Softmax", "ArgMax"])
def test_a_layer_behind_it_is_refused(tmp_path: Path, op: str) -> None:
    with pytest.raises(pefslc.CompileError, match="may only end the network") as caught:
        pefslc.load(classifier(tmp_path, op, {"axis": 1}, after="Relu"))
    assert caught.value.problems[0].code is pefslc.Code.NOT_QUANTIZED


def test_the_batch_is_no_axis_of_it(tmp_path: Path) -> None:
    with pytest.raises(pefslc.CompileError, match="along axis 0"):
        pefslc.load(classifier(tmp_path, "ArgMax", {}))


def test_a_softmax_over_several_axes_is_refused(tmp_path: Path) -> None:
    m = ModelBuilder(opset=11)
    m.output(m.node("Softmax", m.quant(m.input([1, 2, 3, 3], "x"), 0.125, 5)))
    with pytest.raises(pefslc.CompileError, match="over several axes"):
        pefslc.load(m.save(tmp_path))


@pytest.mark.parametrize("op", ["Softmax", "Sigmoid", "ArgMax"])
def test_a_float_model_may_end_with_one(tmp_path: Path, op: str) -> None:
    m = ModelBuilder()
    y = m.node("MatMul", m.input([1, 6], "x"), m.constant(normal((6, 5), 0.5)))
    m.output(m.node(op, y, **({} if op == "Sigmoid" else {"axis": 1})))
    path = m.save(tmp_path)
    program = pefslc.compile(path, target="c", fmt="Q4.12", verify=X)
    (found,) = program.run(X).values()
    (wanted,) = pefslc.load(path).run(X).values()
    assert np.abs(found - wanted).max() < (0.5 if op == "ArgMax" else 1e-3)


@pytest.mark.parametrize("op", ["Softmax", "ArgMax"])
def test_arrays_beside_a_float_model_are_results(tmp_path: Path, op: str) -> None:
    m = ModelBuilder()
    y = m.node("MatMul", m.input([1, 6], "x"), m.constant(normal((6, 5), 0.5)))
    m.output(m.node(op, y, axis=1))
    path = m.save(tmp_path)
    program = pefslc.compile(path, target="c", fmt="Q4.12")
    (wanted,), (ours,) = pefslc.load(path).run(X).values(), program.run(X).values()
    assert not program.verify({"x": X, "y_ref64": wanted}).strangers
    found = program.verify({"x": X, "y_ref64": ours})
    assert any("y_ref64" in c.compared and not c.differing for c in found.comparisons)
    assert not any(e.compared.startswith("c and 'y_ref64'") for e in found.errors)


QUANTIZED = {
    "quantize_dequantize": np.uint8,
    "codes": np.int8,
    "qonnx": np.int8,
    "qlinear": np.uint8,
}


def quantized_classifier(folder: Path, ending: str, step: float, zero_point: int, reader: str = "") -> Path:
    """As `classifier`, a Softmax at the end, and the quantizer that ONNX Runtime or Brevitas puts behind that."""
    m = ModelBuilder()
    x = m.node("MatMul", m.quant(m.input([1, 6], "x"), 0.125, 5), m.weight(normal((6, 5), 0.5), 0.25, 4))
    zero = m.constant(zero_point, dtype=QUANTIZED[ending])
    parameters = (m.constant(step), zero)
    if ending == "qlinear":
        logits = (m.constant(0.0625), m.constant(3, dtype=np.int8))
        codes = m.node("QuantizeLinear", x, *logits)
        y = m.node("QLinearSoftmax", codes, *logits, *parameters, domain="com.microsoft", axis=-1, opset=13)
    elif ending == "qonnx":
        y = m.quant(m.node("Softmax", x, axis=-1), step, 8, zero_point=zero_point)
    else:
        y = m.node("QuantizeLinear", m.node("Softmax", x, axis=-1), *parameters)
    if ending in ("qlinear", "quantize_dequantize"):
        y = m.node("DequantizeLinear", y, *parameters)
    if reader:
        y = m.node(reader, y)
    m.outputs.append(
        helper.make_tensor_value_info(y, TensorProto.INT8 if ending == "codes" else TensorProto.FLOAT, None)
    )
    model = m.build()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize("ending", QUANTIZED)
def test_a_quantizer_behind_a_softmax_is_the_hosts(tmp_path: Path, ending: str, target: str) -> None:
    step, zero_point = 0.0043, 7 if QUANTIZED[ending] is np.uint8 else -20
    path = quantized_classifier(tmp_path, ending, step, zero_point)
    program = pefslc.compile(path, target=target, check_passes=True)
    (output,) = program.graph.outputs
    logits = program.run(X, codes=True)[output.name] * np.array([float(s) for s in output.map.scale])
    logits = logits + np.array([float(s) for s in output.map.offset])
    powers = np.exp(logits)
    place = powers / powers.sum(axis=1, keepdims=True) / float(np.float32(step))
    assert np.abs(place % 1 - 0.5).min() > 1e-9, "a tie, which float64 does not decide"
    limits = np.iinfo(QUANTIZED[ending])
    codes = np.clip(np.rint(place) + zero_point, limits.min, limits.max)
    wanted = codes if ending == "codes" else (codes - zero_point) * float(np.float32(step))
    assert len(np.unique(wanted)) > 20
    (evaluated,) = pefslc.load(path).run(X).values()
    np.testing.assert_array_equal(evaluated, wanted)
    np.testing.assert_array_equal(program.run(X)[output.name], wanted)
    program.save(tmp_path / "build")
    (again,) = open_artifact(tmp_path / "build").run({"x": X}).values()
    np.testing.assert_array_equal(again, wanted)
    assert parse_graph(str(program.graph)) == program.graph
    program.verify({"x": X, "y_ref64": wanted}).require()
    if target == "tensil":
        io = host_module_of(program)
        io["codes_from_driver"] = lambda codes: {output.name: codes}
        for found, row in zip(program.run(X, codes=True)[output.name], wanted, strict=True):
            np.testing.assert_array_equal(io["from_driver"](found[None])[output.name], row[None])


@pytest.mark.parametrize("ending", ["quantize_dequantize", "qonnx", "qlinear"])
@pytest.mark.parametrize("reader", ["Relu", "Flatten", "Softmax"])
def test_a_layer_behind_that_quantizer_is_refused(tmp_path: Path, ending: str, reader: str) -> None:
    with pytest.raises(pefslc.CompileError, match="may only end the network"):
        pefslc.load(quantized_classifier(tmp_path, ending, 0.0043, 0, reader))


def requantized_classifier(folder: Path, first: tuple[float, np.integer], second: tuple[float, np.integer]) -> Path:
    """A Softmax, a QuantizeLinear and DequantizeLinear, and a QuantizeLinear; of each the step and the zero point."""
    m = ModelBuilder()
    x = m.node("MatMul", m.quant(m.input([1, 6], "x"), 0.125, 5), m.weight(normal((6, 5), 0.5), 0.25, 4))
    own, other = ((m.constant(step), m.constant(zero, dtype=type(zero))) for step, zero in (first, second))
    y = m.node("DequantizeLinear", m.node("QuantizeLinear", m.node("Softmax", x, axis=-1), *own), *own)
    y = m.node("QuantizeLinear", y, *other)
    m.outputs.append(helper.make_tensor_value_info(y, helper.np_dtype_to_tensor_dtype(second[1].dtype), None))
    return m.save(folder)


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize(
    ("first", "second"), [(np.int8(-128), np.uint8(0)), (np.uint8(7), np.int8(-121)), (np.int8(-20), np.int8(-20))]
)
def test_a_softmaxs_codes_in_another_type_are_the_hosts(
    tmp_path: Path, first: np.integer, second: np.integer, target: str
) -> None:
    """TFLite's networks are of int8, whatever their ends are. The steps saturate, too."""
    step = 0.0033
    program = pefslc.compile(requantized_classifier(tmp_path, (step, first), (step, second)), target=target)
    (output,) = program.graph.outputs
    logits = program.run(X, codes=True)[output.name] * np.array([float(s) for s in output.map.scale])
    powers = np.exp(logits + np.array([float(s) for s in output.map.offset]))
    place = powers / powers.sum(axis=1, keepdims=True) / float(np.float32(step))
    assert np.abs(place % 1 - 0.5).min() > 1e-9, "a tie, which float64 does not decide"
    between = np.clip(np.rint(place) + int(first), np.iinfo(first.dtype).min, np.iinfo(first.dtype).max)
    wanted = np.clip(between - int(first) + int(second), np.iinfo(second.dtype).min, np.iinfo(second.dtype).max)
    assert (between == np.iinfo(first.dtype).max).any()
    np.testing.assert_array_equal(program.run(X)[output.name], wanted)
    program.verify({"x": X, "y_ref64": wanted}).require()


@pytest.mark.parametrize("second", [(0.0044, np.int8(-20)), (0.0043, np.int8(-21)), (0.0043, np.uint8(0))])
def test_a_second_quantizer_of_other_values_behind_a_softmax_is_refused(
    tmp_path: Path, second: tuple[float, np.integer]
) -> None:
    with pytest.raises(pefslc.CompileError, match="the host's part has a second quantizer, with other values"):
        pefslc.load(requantized_classifier(tmp_path, (0.0043, np.int8(-20)), second))


def test_a_reshape_between_that_quantizer_and_its_dequantizer_is_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    y = m.node("Softmax", m.quant(m.input([1, 6], "x"), 0.125, 5), axis=-1)
    parameters = (m.constant(0.0043), m.constant(0, dtype=np.uint8))
    codes = m.node("Reshape", m.node("QuantizeLinear", y, *parameters), m.constant([1, 2, 3], dtype=np.int64))
    m.output(m.node("DequantizeLinear", codes, *parameters))
    with pytest.raises(pefslc.CompileError, match="read behind a quantizer"):
        pefslc.compile(m.save(tmp_path), target="c")


def test_scales_per_channel_behind_a_softmax_are_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    y = m.node("Softmax", m.quant(m.input([1, 2], "x"), 0.125, 5), axis=-1)
    parameters = (m.constant([0.0043, 0.01]), m.constant([0, 0], dtype=np.uint8))
    m.output(m.node("DequantizeLinear", m.node("QuantizeLinear", y, *parameters), *parameters))
    with pytest.raises(pefslc.CompileError, match="only a quantizer with one scale"):
        pefslc.load(m.save(tmp_path))


def test_qlinear_softmax_of_an_older_opset_than_the_file_is_refused(tmp_path: Path) -> None:
    path = quantized_classifier(tmp_path, "qlinear", 0.0043, 0)
    model = onnx.load(path)
    (node,) = (n for n in model.graph.node if n.op_type == "QLinearSoftmax")
    next(a for a in node.attribute if a.name == "opset").i = 11
    onnx.save(model, path)
    with pytest.raises(pefslc.CompileError, match="of opset 11 in a model of opset 13"):
        pefslc.load(path)


def test_of_a_float_model_with_classes_the_same_ones_are_counted_and_the_logits_measured(tmp_path: Path) -> None:
    """Class 4 is not nearer to class 3 than class 0 is."""
    m = ModelBuilder()
    y = m.node("MatMul", m.input([1, 6], "x"), m.constant(normal((6, 5), 0.5)))
    m.output(m.node("ArgMax", y, axis=1))
    path = m.save(tmp_path)
    (classes,) = pefslc.load(path).run(X).values()
    program = pefslc.compile(path, target="c", fmt="Q3.1")
    (ours,) = program.run(X).values()
    same = int((ours == classes).sum())
    assert 10 < same < 40, "of use only where some differ"
    text = str(program.verify({"x": X, "y_ref64": classes}))
    assert f"c and the float model: the same class on {same} of 40, {same / 40:.1%}" in text
    assert f"c and 'y_ref64': the same class on {same} of 40" in text
    assert "'y_ref64' and the float model: the same class on 40 of 40" in text
    assert "c and the float model: off by at most" in text
    assert "c and 'y_ref64': off" not in text


@pytest.mark.parametrize("fmt", [None, "Q3.4"])
def test_a_softmax_of_a_constant_is_refused(tmp_path: Path, fmt: str | None) -> None:
    m = ModelBuilder()
    m.node("Relu", m.input([1, 6], "x"))
    m.output(m.node("Softmax", m.constant(normal((1, 6), 0.5))))
    with pytest.raises(pefslc.CompileError):
        pefslc.compile(m.save(tmp_path), target="c", fmt=fmt)
