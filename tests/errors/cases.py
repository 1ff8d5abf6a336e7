"""One model, file or call for each code that refuses it: the examples of docs/errors.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
from cli_support import FakeTarget
from errors.unusable_plugins import Fails, ForgetsTheFiles, Refuses
from onnx import TensorProto, helper

import pefslc
from builders import ModelBuilder
from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.error_codes import Code
from pefslc.driver.compiled_artifact import open_artifact
from pefslc.driver.compiler import lower_model
from pefslc.driver.deployment import run_command
from pefslc.driver.target_registry import find_target
from pefslc.files.arrays import read_arrays
from pefslc.files.staging import write_file
from pefslc.ir.graph import Graph
from pefslc.ir.parse import parse_graph
from pefslc.model_report.comparison import read_report
from pefslc.passes.manager import run_passes
from pefslc.targets.tensil.machine.architecture import built_in_architectures, load_architecture
from pefslc.targets.tensil.program.listing import parse_listing
from pefslc.targets.tensil.program.tmodel import load_tmodel

SHAPE = (1, 2, 4, 4)
ONES = np.ones((2, 2, 1, 1))
Case = Callable[[], object]
Build = Callable[[ModelBuilder, str], str]


def model(build: Build, shape: object = SHAPE, *, quantized: bool = True) -> ModelBuilder:
    """input -> Quant -> what `build` adds -> output."""
    m = ModelBuilder()
    x = m.input(shape, "image")  # type: ignore[arg-type]
    m.output(build(m, m.quant(x, output="input_codes") if quantized else x))
    return m


def compiled(m: ModelBuilder | onnx.ModelProto, target: object = "c", **options: object) -> object:
    proto = m.build() if isinstance(m, ModelBuilder) else m
    Path("model.onnx").write_bytes(proto.SerializeToString())
    return pefslc.compile("model.onnx", target=target, **options)  # type: ignore[arg-type]


def network(
    build: Build = lambda m, x: conv(m, x), shape: object = SHAPE, *, quantized: bool = True, **options: object
) -> Case:
    return lambda: compiled(model(build, shape, quantized=quantized), **options)


def changed(change: Callable[[onnx.ModelProto], object]) -> Case:
    """A small network whose file is changed."""

    def run() -> object:
        proto = model(lambda m, x: conv(m, x)).build()
        change(proto)
        return compiled(proto)

    return run


def conv(m: ModelBuilder, x: str, weight: object = ONES, **attributes: object) -> str:
    return m.quant(m.node("Conv", x, m.weight(weight), name="/layer/Conv", output="sums", **attributes), output="y")


def node(op: str, *constants: object, domain: str = "", **attributes: object) -> Case:
    def build(m: ModelBuilder, x: str) -> str:
        parameters = [m.constant(c, dtype=np.int64 if isinstance(c, list) else np.float32) for c in constants]
        return m.node(op, x, *parameters, name=f"/layer/{op}", output="y", domain=domain, **attributes)

    return network(build)


def quantizer(*parameters: object, **attributes: object) -> Case:
    def build(m: ModelBuilder, x: str) -> str:
        constants = [m.constant(p) for p in parameters]
        return m.node("Quant", x, *constants, domain=m.quant_domain, name="/act/Quant", output="y", **attributes)

    return network(build)


def written(name: str, content: bytes | str) -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def saved() -> None:
    """A compiled model in build/."""
    compiled(model(lambda m, x: conv(m, x)), FakeTarget()).save("build")  # type: ignore[attr-defined]


def in_use() -> None:
    """A compile on another computer writes into build/."""
    Path("build").mkdir()
    written("build/.pefslc.lock", '{"pid": 4711, "host": "workstation", "since": "2026-01-31 12:00:00 UTC"}')
    with patch("pefslc.files.folder_lock._PATIENCE_S", 0.0):
        saved()


def artifact(change: Callable[[], object]) -> Case:
    """A compiled model that is changed before it is opened again."""

    def run() -> object:
        saved()
        change()
        return open_artifact(Path("build"))

    return run


def two_artifacts() -> None:
    m = model(lambda m, x: conv(m, x)).build()
    Path("other.onnx").write_bytes(m.SerializeToString())
    pefslc.compile("other.onnx", target=FakeTarget()).save("build")


def another_version() -> None:
    content = json.loads(Path("build/model.fake.json").read_text())
    written("build/model.fake.json", json.dumps({**content, "format": 999}))


def integer_graph(m: ModelBuilder) -> Graph:
    Path("model.onnx").write_bytes(m.build().SerializeToString())
    return lower_model("model.onnx", TargetLimits(64, "int64")).integer


def given(**arrays: object) -> Case:
    return lambda: integer_graph(model(lambda m, x: conv(m, x))).run(
        {k: np.asarray(v, dtype=np.float64) for k, v in arrays.items()}
    )


def verified(arch: str | None = None, **arrays: object) -> Case:
    def run() -> object:
        program = compiled(model(lambda m, x: conv(m, x)), FakeTarget(), arch=arch)
        inputs = {"image": np.ones(SHAPE), **{k: np.asarray(v, dtype=np.float64) for k, v in arrays.items()}}
        return program.verify(inputs).require()  # type: ignore[attr-defined]

    return run


def small_board(**fields: int) -> Case:
    """The model on pynqz1 with another memory."""

    def run() -> object:
        board = json.loads(built_in_architectures()["pynqz1"].read_text())
        written("board.tarch", json.dumps({**board, **fields}))
        return compiled(
            model(lambda m, x: conv(m, x, np.ones((24, 2, 3, 3)) / 8, pads=[1] * 4)), "tensil", arch="board.tarch"
        )

    return run


def external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[-4]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def cyclic(proto: onnx.ModelProto) -> None:
    relu = helper.make_node("Add", ["back", "y"], ["there"], name="/layer/Add")
    proto.graph.node.extend([relu, helper.make_node("Relu", ["there"], ["back"], name="/layer/Relu")])


def branching(proto: onnx.ModelProto) -> None:
    result = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["y"], ["inner"])], "branch", [], [result])
    proto.graph.node.append(helper.make_node("If", ["y"], ["z"], name="/If", then_branch=branch, else_branch=branch))
    proto.graph.output[0].name = "z"


def functional(proto: onnx.ModelProto) -> None:
    """A function that calls itself."""
    node = helper.make_node("Block", ["a"], ["b"], domain="local")
    proto.functions.append(helper.make_function("local", "Block", ["a"], ["b"], [node], proto.opset_import))
    proto.graph.node.append(helper.make_node("Block", ["y"], ["z"], name="/Block", domain="local"))
    proto.graph.output[0].name = "z"


def two_batchnorms(m: ModelBuilder, x: str) -> str:
    for _ in range(2):
        x = m.node(
            "BatchNormalization",
            x,
            *(m.constant([v, v]) for v in (1.0, 0.5, 0.25, 2.0)),
            name="/norm/BatchNormalization",
        )
    return m.quant(x, output="y")


def unquantized_between(m: ModelBuilder, x: str) -> str:
    x = m.node(
        "BatchNormalization", x, *(m.constant([v, v]) for v in (1.1, 0.5, 0.25, 2.0)), name="/norm/BatchNormalization"
    )
    return conv(m, x)


def raw_weight(m: ModelBuilder, x: str) -> str:
    return m.quant(m.node("Conv", x, m.constant(ONES), name="/layer/Conv", output="sums"), output="y")


def two_grids(m: ModelBuilder, x: str) -> str:
    lhs, rhs = m.quant(x, 0.1), m.quant(x, 1e-20)
    return m.node("Add", lhs, rhs, name="/Add", output="y")


def per_channel(m: ModelBuilder, x: str) -> str:
    pads = m.constant([0, 1, 0, 0, 0, 0, 0, 0], dtype=np.int64)
    padded = m.node("Pad", m.quant(x, [[[[0.5]], [[0.25]]]]), pads, name="/Pad", output="padded")
    return m.quant(padded, output="y")


def odd_scale(m: ModelBuilder, x: str) -> str:
    x = m.quant(x, 2.0**-10, 12)
    sums = m.node("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1], name="/pool/AveragePool")
    # Factors that differ 300 times: no correction is of all channels.
    ends = [0.9, -0.003], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]
    norm = m.node("BatchNormalization", sums, *(m.constant(np.array(each)) for each in ends))
    return m.quant(norm, 0.0123, 8, output="y")


def huge_codes(m: ModelBuilder, x: str) -> str:
    x = m.quant(x, bits=32, output="codes")
    weight = m.weight(np.full((2, 2, 60, 60), 2.0**27), bits=32)
    return m.quant(m.node("Conv", x, weight, pads=[59] * 4, name="/layer/Conv", output="sums"), output="y")


def wide(m: ModelBuilder, x: str) -> str:
    x = m.node("Conv", x, m.weight(ONES, bits=8), name="/one/Conv")
    norm = m.node("BatchNormalization", x, *(m.constant(np.array([0.5, v])) for v in (2, 1, 0, 3)))
    x = m.quant(norm, 2.0**-20, 32, output="wide")
    return conv(m, x)


CASES: dict[Code, Case] = {
    Code.NO_SUCH_FILE: lambda: pefslc.load("resnet9.onnx"),
    Code.UNREADABLE_FILE: lambda: pefslc.load("."),
    Code.NOT_ONNX: lambda: pefslc.load(written("model.onnx", b"PK" * 20)),
    Code.DAMAGED_MODEL: changed(lambda p: setattr(p.graph.initializer[0], "data_type", 99)),
    Code.OPSET: changed(lambda p: setattr(p.opset_import[0], "version", 8)),
    Code.EXTERNAL_DATA: changed(external),
    Code.LYING_TENSOR: changed(lambda p: p.graph.initializer[-4].dims.append(7)),
    Code.MODEL_FUNCTION: changed(functional),
    Code.EMPTY_GRAPH: changed(lambda p: p.graph.ClearField("output")),
    Code.CYCLE: changed(cyclic),
    Code.DUPLICATE_NAME: changed(lambda p: p.graph.initializer.append(p.graph.initializer[0])),
    Code.UNDEFINED_TENSOR: changed(lambda p: p.graph.node[-1].input.__setitem__(0, "lost")),
    Code.CONTROL_FLOW: changed(branching),
    Code.DYNAMIC_SHAPE: network(shape=["N", 2, 4, 4]),
    Code.INPUT_TYPE: changed(lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT64)),
    Code.EMPTY_AXIS: network(shape=(1, 2, 0, 4)),
    Code.TENSOR_TOO_LARGE: network(shape=(1, 2, 10**6, 10**6)),
    Code.OUTPUT_SHAPE: changed(lambda p: p.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [1, 7]))),
    Code.CONSTANT_VALUE: network(lambda m, x: conv(m, x, ONES * np.nan)),
    Code.UNUSED_INPUT: changed(lambda p: p.graph.input.append(helper.make_tensor_value_info("mask", 1, [1, 2]))),
    Code.CONSTANT_OUTPUT: changed(lambda p: p.graph.output.append(helper.make_tensor_value_info("c0", 1, []))),
    Code.GIVEN_SHAPE: network(input_shapes={"image": (1, 2, 8, 8)}),
    Code.QUANTIZER_INPUTS: quantizer(0.125, 0),
    Code.BIT_WIDTH: quantizer(0.125, 0, 4.5),
    Code.ZERO_POINT: quantizer(0.125, 0.5, 8),
    Code.SCALE_VALUE: quantizer(np.nan, 0, 8),
    Code.SCALE_SHAPE: quantizer([[[[0.1, 0.2, 0.3, 0.4]]]], 0, 8),
    Code.ROUNDING_MODE: quantizer(0.125, 0, 8, rounding_mode="STOCHASTIC_ROUND"),
    Code.QUANTIZER_FLAG: quantizer(0.125, 0, 8, signed=7),
    Code.INPUT_NOT_QUANTIZED: network(quantized=False),
    Code.INPUT_QUANTIZED_TWICE: lambda: compiled(_two_input_quantizers()),
    Code.NOT_QUANTIZED: network(unquantized_between),
    Code.WEIGHT_NOT_QUANTIZED: network(raw_weight),
    Code.SCALE_PER_CHANNEL: network(per_channel),
    Code.NO_COMMON_GRID: network(two_grids),
    Code.TWO_BATCHNORMS: network(two_batchnorms),
    Code.UNSUPPORTED_OPERATOR: node("LpNormalization"),
    Code.UNSUPPORTED_ATTRIBUTE: node("MaxPool", kernel_shape=[2, 2], storage_order=1),
    Code.ATTRIBUTE_TYPE: node("MaxPool", kernel_shape=2),
    Code.MISSING_OPERAND: node("Conv"),
    Code.COMPUTED_OPERAND: network(lambda m, x: m.node("Reshape", x, x, name="/Reshape", output="y")),
    Code.CONSTANT_OPERAND: network(
        lambda m, x: m.node("Concat", x, m.constant(np.ones((1, 1, 4, 4))), axis=1, name="/Concat", output="y")
    ),
    Code.UNSUPPORTED_SHAPE: network(lambda m, x: conv(m, x, np.ones((2, 2, 1, 1, 1))), shape=(1, 2, 4, 4, 4)),
    Code.SHAPE_MISMATCH: network(lambda m, x: conv(m, x, np.ones((2, 3, 1, 1)))),
    Code.WINDOW: node("MaxPool", kernel_shape=[9, 9]),
    Code.PARAMETER_VALUE: node("BatchNormalization", *([np.array([1.0, v]) for v in (1, 0, 0, -1)])),
    Code.EXTRA_OUTPUT: changed(lambda p: _second_output(p)),
    Code.FUNCTION_VALUE: network(lambda m, x: m.quant(m.node("Log", x, name="/log/Log"), output="y")),
    Code.BAD_FORMAT: network(fmt="5.3"),
    Code.FORMAT_CONTRADICTED: network(fmt="Q3.4"),
    Code.MODEL_NOT_QUANTIZED: network(
        lambda m, x: m.node("Conv", x, m.constant(ONES), name="/layer/Conv", output="y"), quantized=False
    ),
    Code.ACCUMULATOR_OVERFLOW: network(lambda m, x: conv(m, x, ONES * 2), target=FakeTarget(), arch="narrow"),
    Code.BEYOND_64_BITS: network(huge_codes, quantized=False),
    Code.NOT_EXACT: network(odd_scale, target="tensil", require_exact=True),
    Code.CALIBRATION: network(fmt="auto:8"),
    Code.FORMATS: network(formats={"layer": {}, "tensors": {"inputs": "Q2.3"}}),
    Code.CODES_TOO_WIDE: network(wide),
    Code.UNKNOWN_ARCHITECTURE: lambda: load_architecture("pynqz2"),
    Code.BAD_ARCHITECTURE: lambda: load_architecture(written("board.tarch", '{"array_size": 12}')),
    Code.TCU_UNSUPPORTED: network(
        lambda m, x: m.quant(m.node("Mul", x, x, name="/gate/Mul"), output="y"), target="tensil"
    ),
    Code.TCU_WORD: network(
        lambda m, x: m.quant(m.node("MaxPool", m.quant(x, 2.0**-12, 20, output="q"), kernel_shape=[2, 2]), output="y"),
        quantized=False,
        target="tensil",
    ),
    Code.TCU_LOCAL_MEMORY: small_board(local_depth=8),
    Code.TCU_DRAM0: small_board(dram0_depth=16),
    Code.TCU_DRAM1: small_board(dram1_depth=8),
    Code.TCU_PROGRAM: lambda: parse_listing("MatMul 3 bananas"),
    Code.TCU_MODEL_FILE: lambda: load_tmodel(written("model.tmodel", '{"name": "model"}')),
    Code.NOT_AN_ARTIFACT: lambda: open_artifact(Path(".")),
    Code.SEVERAL_ARTIFACTS: artifact(two_artifacts),
    Code.ARTIFACT_CHANGED: artifact(lambda: written("build/model.fake", "edited")),
    Code.ARTIFACT_VERSION: artifact(another_version),
    Code.CANNOT_WRITE: lambda: write_file(Path("missing/y.npz"), b""),
    Code.IN_THE_WAY: lambda: (Path("build").mkdir(), written("build/model.fake", "mine"), saved()),
    Code.NOT_ARRAYS: lambda: read_arrays(Path(written("x.npz", "1, 2, 3"))),
    Code.INPUT_ARRAY: given(image=np.ones((1, 3, 4, 4))),
    Code.EXPECTED_ARRAY: verified(y=np.ones((1, 7))),
    Code.FOLDER_IN_USE: in_use,
    Code.DIFFERS: verified(arch="wrong"),
    Code.TOO_FAR: network(
        lambda m, x: m.node("Relu", x, name="relu"),
        quantized=False,
        target=FakeTarget(),
        fmt="Q2.3",
        verify=np.full(SHAPE, 9.0),
        max_error=0.5,
    ),
    Code.BOARD: lambda: run_command(("no-such-ssh", "--", "xilinx@pynq", "true")),
    Code.NOT_A_REPORT: lambda: read_report(Path(written("resnet9.json", "{}"))),
    Code.UNKNOWN_TARGET: lambda: find_target("fpga"),
    Code.WRONG_OPTION: network(target="c", arch="pynqz1"),
    Code.NO_SUCH_PLUGIN: network(plugins="prune.py"),
    Code.PLUGIN_UNUSABLE: lambda: compiled(model(lambda m, x: conv(m, x)), plugins=written("prune.py", "import numpy")),
    Code.PLUGIN_FAILED: network(plugins=[Fails()]),
    Code.PLUGIN_REFUSES: network(plugins=[Refuses()]),
    Code.PASS_LEVEL: lambda: run_passes(integer_graph(model(lambda m, x: conv(m, x))), [Refuses()]),
    Code.IR_TEXT: lambda: parse_graph('graph "g" integer\n%1: banana'),
    Code.TARGET_FAILED: network(target=ForgetsTheFiles()),
    Code.NOT_A_MODEL: lambda: pefslc.compile(42, target="c"),  # type: ignore[arg-type]
    Code.EXAMPLE: lambda: pefslc.compile("model.onnx", target="c", example=np.ones(SHAPE)),  # type: ignore[arg-type]
}

# Codes without an example here, each with the reason.
WITHOUT = {
    Code.BIAS_OFF_GRID: "a pass that separates such biases runs before the check",
    Code.TCU_NOT_EXACT: "tests/tensil has the networks",
    Code.TCU_ACCUMULATORS: "tests/tensil has the networks that large",
    Code.NO_C_COMPILER: "the tests need one",
    Code.C_TENSOR_TOO_LARGE: "would take the memory that it is about",
    Code.C_UNSUPPORTED: "the importer refuses such additions first",
    Code.ARRAYS_TOO_LARGE: "tests/cli/test_arrays.py has the file",
    **{code: "needs torch: tests/train" for code in Code if "PEF1000" <= code.number < "PEF1100" and code not in CASES},
}


def _two_input_quantizers() -> ModelBuilder:
    m = ModelBuilder()
    x = m.input(SHAPE, "image")
    m.output(m.node("Concat", m.quant(x, 0.5), m.quant(x, 0.25), axis=1, name="/Concat", output="y"))
    return m


def _second_output(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(
        helper.make_node("MaxPool", ["y"], ["pooled", "indices"], name="/pool/MaxPool", kernel_shape=[2, 2])
    )
    proto.graph.output.append(helper.make_tensor_value_info("indices", TensorProto.INT64, None))
