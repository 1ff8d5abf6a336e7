"""Files that are damaged or mean harm: refused in words, or compiled, whatever they hold; the fuzzer's findings."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pefslc
from builders import ModelBuilder
from pefslc.diagnostics.error_codes import Code
from pefslc.geometry.shapes import Window

SHAPE = (1, 2, 4, 4)
EVIL = ("../../etc/x", "int main(){", 'a"b\\c', "*/ #error", "\n\r\0", "é☃", "%s%n", "n" * 70_000, " ", "/")


def network(names: Callable[[int], str] | None = None) -> ModelBuilder:
    """Quant, Conv, Relu, Quant; tensors and nodes named by `names`, when given."""
    m = ModelBuilder()
    called = names or (lambda i: f"t{i}")
    weight = m.weight(np.ones((2, 2, 3, 3)) / 4, output=called(1))
    x = m.quant(m.input(SHAPE, called(0)), output=called(2))
    x = m.node("Conv", x, weight, output=called(3), name=called(3), pads=[1] * 4)
    x = m.node("Relu", x, output=called(4), name=called(4))
    m.output(m.quant(x, signed=0, output=called(5)), SHAPE)
    return m


def refused(model: ModelBuilder | onnx.ModelProto, folder: Path) -> tuple[Code, ...]:
    proto = model.build() if isinstance(model, ModelBuilder) else model
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(path, target="c")
    assert all(line.isprintable() and len(line) < 3000 for line in str(caught.value).splitlines())
    return tuple(p.code for p in caught.value.problems)


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize("first", range(0, len(EVIL), 4))
def test_evil_names_reach_neither_files_nor_code(first: int, target: str, tmp_path: Path) -> None:
    names = [*EVIL[first:], *EVIL[:first]]
    path = tmp_path / "m.onnx"
    path.write_bytes(network(lambda i: names[i]).build().SerializeToString())
    program = pefslc.compile(path, target=target)
    written = program.save(tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "out"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)
    assert all(len(p.name) < 60 and p.name.isascii() for p in written)
    [graph_input] = program.graph.inputs
    assert graph_input.name == names[0]
    # The C compiler is the judge of the identifiers, comments and strings.
    assert program.verify({graph_input.name: np.random.default_rng(first).normal(0, 2, (2, *SHAPE[1:]))}).equal


@pytest.mark.parametrize("location", ["/etc/hostname", "../outside.bin", "link.bin", "sub/inside.bin"])
def test_no_file_of_another_folder_is_read(location: str, tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(1000))
    own = tmp_path / "own"
    own.mkdir()
    (own / "sub").mkdir()
    (own / "sub" / "inside.bin").write_bytes(bytes(1000))
    (own / "link.bin").symlink_to("../outside.bin")
    model = network().build()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = own / "model.onnx"
    path.write_bytes(model.SerializeToString())
    script = (
        "import sys, pefslc, os\n"
        "opened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "try: pefslc.compile(sys.argv[1], target='c')\n"
        "except pefslc.CompileError as e: print(e.problems[0].code)\n"
        "print([p for p in opened if p.endswith(('hostname', '.bin'))])\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert ended.stdout == "PEF0106\n[]\n"


@pytest.mark.parametrize(
    ("dims", "code"),
    [
        ([100_000, 100_000, 3, 3], Code.LYING_TENSOR),
        ([2**62, 4], Code.LYING_TENSOR),
        ([-2, -2, 3, 3], Code.LYING_TENSOR),
    ],
)
def test_lying_shapes(dims: list[int], code: Code, tmp_path: Path) -> None:
    model = network().build()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    assert refused(model, tmp_path) == (code,)


def test_huge_inputs_take_no_memory(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.input((1, 3, 10**6, 10**6))))
    assert refused(m, tmp_path) == (Code.TENSOR_TOO_LARGE,)


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_tensor_too_large_to_be_indexed(target: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 1, 2**13, 2**13)))
    m.output(m.quant(m.node("Reshape", x, m.constant([1, -1], dtype=np.int64))))
    with pytest.raises(pefslc.CompileError, match="is too large"):
        pefslc.compile(m.save(tmp_path), target=target)


def test_attributes_of_every_kind(tmp_path: Path) -> None:
    model = network().build()
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
        [3],
    )
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    node.attribute.append(helper.make_attribute("sparse", sparse))
    assert refused(model, tmp_path) == (Code.ATTRIBUTE_TYPE,)


# --- what the fuzzer found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_attribute_that_is_no_finite_number(value: float, tmp_path: Path) -> None:
    m = ModelBuilder()
    parts = [m.constant([v, v]) for v in (1.0, 0.0, 0.0, 1.0)]
    x = m.node("BatchNormalization", m.quant(m.input(SHAPE)), *parts, epsilon=value)
    m.output(m.quant(x))
    assert refused(m, tmp_path) == (Code.PARAMETER_VALUE,)


@pytest.mark.parametrize("op", ["Flatten", "Reshape", "Transpose", "Relu", "MaxPool", "Concat", "ReduceMean", "Quant"])
def test_a_tensor_without_axes(op: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.input(())
    operands = [m.constant([1, 1], dtype=np.int64)] if op == "Reshape" else []
    y = m.quant(x) if op == "Quant" else m.quant(m.node(op, x, *operands))
    m.output(y)
    path = m.save(tmp_path)
    for target in ("c", "tensil"):
        with pytest.raises(pefslc.CompileError):
            pefslc.compile(path, target=target, fmt="Q2.3")


def test_an_attribute_with_an_unprintable_name(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Relu", m.quant(m.input(SHAPE)), **{"a\bb\nerror[PEF0000]: forged" + "x" * 70_000: 1}))
    assert Code.UNSUPPORTED_ATTRIBUTE in refused(m, tmp_path)


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.STRING])
def test_a_faulty_node_whose_result_is_declared_of_a_strange_type(kind: int, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.node("Mystery", m.quant(m.input(SHAPE)), output="m")))
    model = m.build()
    declared = helper.make_tensor_value_info("m", TensorProto.FLOAT, SHAPE)
    declared.type.tensor_type.elem_type = kind
    model.graph.value_info.append(declared)
    assert refused(model, tmp_path) == (Code.UNSUPPORTED_OPERATOR,)


def test_constants_that_are_broadcast_to_more_than_the_memory(tmp_path: Path) -> None:
    m = ModelBuilder()
    rows, columns = np.zeros((60_000, 1)), np.zeros((1, 60_000))
    shape = m.node("Add", m.constant(rows, dtype=np.int64), m.constant(columns, dtype=np.int64))
    m.output(m.node("Reshape", m.quant(m.input(SHAPE)), shape))
    assert refused(m, tmp_path)


@pytest.mark.parametrize("sizes", [[2**62] * 40, [-1, 4], [2**40]])
def test_constants_of_an_impossible_shape(sizes: list[int], tmp_path: Path) -> None:
    m = ModelBuilder()
    shape = m.node("ConstantOfShape", m.constant(sizes, dtype=np.int64))
    m.output(m.node("Reshape", m.quant(m.input(SHAPE)), shape))
    assert refused(m, tmp_path)


def test_a_constant_whose_attribute_is_empty(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Reshape", m.quant(m.input(SHAPE)), m.node("Concat", m.constant([1, 32], dtype=np.int64), axis=0)))
    model = m.build()
    attribute = model.graph.node[1].attribute[0]
    attribute.ClearField("i")
    attribute.type = onnx.AttributeProto.INTS
    assert refused(model, tmp_path)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("zero_point", [-1.66e35, 2.0**33])
def test_a_zero_point_beyond_every_format(version: int, zero_point: float, tmp_path: Path) -> None:
    m = ModelBuilder(quant_version=version)
    scale, eight, five = m.constant(0.125), m.constant(8), m.constant(5)
    parameters = [scale, m.constant(zero_point), eight, *([scale] if version == 2 else []), five]
    m.output(m.node("Trunc", m.quant(m.input(SHAPE)), *parameters, domain=m.quant_domain))
    assert refused(m, tmp_path) == (Code.ZERO_POINT,)


def test_a_wide_input_with_a_zero_point(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE), bits=32, zero_point=1)
    m.output(m.quant(m.node("Conv", x, m.weight(np.ones((2, 2, 1, 1))))))
    assert refused(m, tmp_path) == (Code.CODES_TOO_WIDE,)


def test_integers_without_axes_that_are_dequantized(tmp_path: Path) -> None:
    m = ModelBuilder()
    number = m.node("DequantizeLinear", m.constant(3, dtype=np.int8), m.constant(0.5), m.constant(0, dtype=np.int8))
    m.output(m.node("Add", m.quant(m.input(SHAPE)), number))
    (values,) = pefslc.load(m.save(tmp_path)).run(np.zeros(SHAPE)).values()
    assert (values == 1.5).all()


def test_a_quantized_constant_without_axes(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.input(SHAPE)))
    m.output(m.quant(m.constant(0.0), 0.3))  # a float scale: near a tie, which 0 is not, it is decided exactly
    m.output(m.quant(m.constant(0.15), 0.3))
    assert set(refused(m, tmp_path)) == {Code.CONSTANT_OUTPUT}


@pytest.mark.parametrize("names", [[], [""]])
def test_a_node_that_writes_nothing(names: list[str], tmp_path: Path) -> None:
    model = network().build()
    node = helper.make_node("Relu", ["t2"], names)
    model.graph.node.append(node)
    assert refused(model, tmp_path) == (Code.DAMAGED_MODEL,)


def test_critical_positions_decide_for_all() -> None:
    """Against every position, over all small windows."""
    for kernel, dilation, stride, pad, size in product(range(1, 4), range(1, 5), range(1, 5), range(5), range(1, 6)):
        window = Window(kernel=(kernel, 1), dilations=(dilation, 1), strides=(stride, 1), pads=(pad, 0, pad, 0))
        count = window.output_size(size, 1)[0]
        taps = [[p * stride - pad + k * dilation for k in range(kernel)] for p in range(count)]
        assert window.always_sees(size, 1) == all(any(0 <= t < size for t in tap) for tap in taps)


def test_a_pool_of_astronomic_padding_is_decided_at_once(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 1, 1, 4)))
    sizes = {"kernel_shape": [2**28, 1], "pads": [2**27, 0, 2**28 - 2, 0], "strides": [1, 1]}
    m.output(m.node("MaxPool", x, **sizes))
    start = time.process_time()
    assert refused(m, tmp_path)
    assert time.process_time() - start < 5


def test_a_name_given_twice(tmp_path: Path) -> None:
    for change in ("input", "output"):
        model = network().build()
        names = getattr(model.graph, change)
        names.append(names[0])
        assert refused(model, tmp_path) == (Code.DUPLICATE_NAME,)
    for taken in ("t0", "c0"):  # the graph's input, a constant
        model = network().build()
        model.graph.node[1].output[0] = taken
        assert Code.DUPLICATE_NAME in refused(model, tmp_path)


def test_a_text_as_json_is_whole(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("☃\n", m.quant(m.input(SHAPE)), name="\0", output="\n\n"))
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.load(m.save(tmp_path))
    [problem] = [json.loads(json.dumps(p.to_json())) for p in caught.value.problems]
    assert (problem["node"], problem["operator"], problem["tensor"]) == ("\0", "☃\n", "\n\n")
