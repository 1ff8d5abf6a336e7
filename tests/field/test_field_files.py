"""Files as people have them, from public reports and real exporters: each compiles exactly, or is refused with advice.

Every file of tests/data/field and of tests/data/qoperator has a line here. An .npz beside a file holds inputs, and the
right outputs, of exact arithmetic or of ONNX Runtime; this project computed none of them. What a kind means beyond its
files is tested elsewhere:

| kind | who has it | tests of the kind |
|---|---|---|
| affine_of_codes_before_dense | FINN's tutorials: (x + 1) / 2 behind a quantizer | differential/test_scales.py |
| before_first_quantizer | flatten, / 255, 2x - 1, NHWC in front of it | passes/test_quantize_inputs.py |
| bias_as_quantized_add | Keras Dense by ONNX Runtime, QKeras | frontend/test_separate_biases.py |
| classifier_tails | Softmax, Sigmoid, ArgMax at the end | frontend/test_tails.py |
| dense_on_sequence | MLP-Mixers, PointNet: layers over the last axis | frontend/test_rows.py |
| depth_to_space | super-resolution: PixelShuffle | tensil/test_host_movement.py |
| dynamic_quantization | ONNX Runtime's quantize_dynamic | frontend/test_advice.py |
| flatten_axis | keras2onnx | frontend/test_operators_by_others.py |
| float_constants_not_folded | parameters computed from constants | frontend/test_folded_constants.py |
| float_fmt_saturates_unsaid | a float model with a format that is too small | cli/test_float_distance.py |
| fmt_cannot_open_the_input | quantized, but for its input | cli/test_input_formats.py |
| follow_up_errors | an operator that nobody knows | frontend/test_advice.py |
| gemm_bias_shapes | skl2onnx, keras2onnx: C of [1, N], [1] | frontend/test_operators_by_others.py |
| global_maximum | AdaptiveMaxPool2d(1) | frontend/test_operators_by_others.py |
| integer_inputs_outputs | TFLite converted: bytes in and out | frontend/test_integer_ends.py |
| max_pool_before_activation | LeNet: conv, pool, ReLU | passes/test_quantize_before_movement.py |
| movement_between_q_and_dq | optimizers, TFLite converters | frontend/test_moved_integers.py |
| opset_23 | torch.onnx.export of today | frontend/test_opsets.py |
| per_channel_activation_depthwise | Brevitas' MobileNetV1 | differential/test_scales.py |
| qonnx_domain_not_imported | the QONNX model zoo | frontend/test_opsets.py, frontend/test_advice.py |
| qoperator_models | quantize_static with QuantFormat.QOperator | frontend/test_integer_operators.py |
| residual_two_float_scales | every ResNet of quantize_static | differential/test_scales.py |
| residual_with_unquantized_branch | TensorRT's recipe for QAT | differential/test_scales.py |
| sixteen_bit_activations | QInt16, TFLite 16x8 | numeric/test_line.py |
| systematic_ties | TruncAdaptiveAvgPool2d | cli/test_ties.py |
| tensil_residual_hint | Brevitas' default scales, 4 bits | tensil/test_sums_of_two_scales.py |
| torch_default_external_data | torch 2.9's default | frontend/test_external_data.py |
| torch_quantized_noop_cast | torch's eager and FX mode | frontend/test_moved_integers.py |

The kinds in _OTHERWISE below are no file that is right as it is: test_field_advice.py is about them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pefslc
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Expected:
    """What a file does.

    refused  the codes of the refusal for the TCU of 16-bit words; "" where it compiles there
    wide     whether it is exact on the TCU of 32-bit words
    """

    refused: str = ""
    wide: bool = False


EXACT = Expected()
WIDER = Expected("PEF0504", wide=True)  # 8-bit products in 16-bit words
BY_WORDS = Expected(wide=True)  # the same, exact there by several words or a correction

FILES: dict[str, Expected] = {
    "affine_of_codes_before_dense/bipolar_to_binary": EXACT,
    "affine_of_codes_before_dense/times_2_only": EXACT,
    "before_first_quantizer/div255": EXACT,
    "before_first_quantizer/flatten": EXACT,
    "before_first_quantizer/unsqueeze": EXACT,
    "before_first_quantizer/view_2x_minus_1": EXACT,
    "before_first_quantizer/zero_pad": EXACT,
    "bias_as_quantized_add/qonnx_dense_1n": EXACT,
    "bias_as_quantized_add/qonnx_dense_n": EXACT,
    "classifier_tails/sigmoid": EXACT,
    "classifier_tails/softmax": EXACT,
    "dense_on_sequence/linear_3d": EXACT,
    "depth_to_space/crd": EXACT,
    "depth_to_space/dcr": EXACT,
    "flatten_axis/axis_0": EXACT,
    "float_constants_not_folded/bit_width_ceil": EXACT,
    "float_constants_not_folded/scale_div": EXACT,
    "float_constants_not_folded/weight_reshape_before_quant": EXACT,
    "gemm_bias_shapes/one": EXACT,
    "gemm_bias_shapes/row": EXACT,
    "global_maximum/global_max_pool": EXACT,
    "integer_inputs_outputs/uint8_cast_div255": BY_WORDS,
    "integer_inputs_outputs/uint8_in": BY_WORDS,
    "max_pool_before_activation/conv_pool_relu": EXACT,
    "movement_between_q_and_dq/identity": EXACT,
    "movement_between_q_and_dq/reshape": EXACT,
    "movement_between_q_and_dq/transpose": EXACT,
    "opset_23/qonnx": EXACT,
    "per_channel_activation_depthwise/depthwise": EXACT,
    "per_channel_activation_depthwise/pointwise_power_of_two": EXACT,
    "qonnx_domain_not_imported/finn_not_imported": EXACT,
    "qonnx_domain_not_imported/not_imported": EXACT,
    "../qoperator/kws": BY_WORDS,
    "../qoperator/mlp": Expected("PEF0605"),
    "residual_two_float_scales/add": WIDER,
    "residual_two_float_scales/add_same_binade_compiles": BY_WORDS,
    "residual_two_float_scales/concat": BY_WORDS,
    "residual_with_unquantized_branch/trt_add": Expected("PEF0504"),
    "sixteen_bit_activations/w8": Expected("PEF0504"),
    "sixteen_bit_activations/w8_relu": Expected("PEF0504"),
    "sixteen_bit_activations/w8_tanh": Expected("PEF0504"),
    "tensil_residual_hint/add": EXACT,
    "torch_quantized_noop_cast/eager_int8": BY_WORDS,
    "torch_quantized_noop_cast/minimal": EXACT,
}
_OTHERWISE = {
    "dynamic_quantization/mlp", "float_fmt_saturates_unsaid/model", "fmt_cannot_open_the_input/conv_reads_float",
    "follow_up_errors/quant_lstm", "qonnx_domain_not_imported/default_domain",
    "systematic_ties/average_then_quantize", "torch_default_external_data/model",
}  # fmt: skip


def model(name: str) -> Path:
    return DATA / "field" / f"{name}.onnx"


def arrays(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
    """The inputs and the right outputs beside a file."""
    graph = pefslc.load(path)
    with np.load(path.with_suffix(".npz")) as file:
        found = dict(file)
    inputs = {i.name: found.pop(i.name) if i.name in found else found.pop("x") for i in graph.inputs}
    assert set(found) == {o.name for o in graph.outputs}
    return inputs, found


def right(program: pefslc.Program, path: Path) -> None:
    """The emitted files compute the right outputs, and codes that are the interpreter's."""
    inputs, wanted = arrays(path)
    found = program.run(inputs)
    for output in program.graph.outputs:
        ours, theirs = found[output.name], wanted[output.name]
        if output.function is None:
            assert np.array_equal(ours.astype(theirs.dtype), theirs)
        else:  # float64's own rounding of the host's exponential
            assert np.abs(ours - theirs).max() < 1e-12
    program.verify(path.with_suffix(".npz")).require()


def test_every_file_has_a_line() -> None:
    field = {f"{p.parent.name}/{p.stem}" for p in (DATA / "field").glob("*/*.onnx")}
    qoperator = {f"../qoperator/{p.stem}" for p in (DATA / "qoperator").glob("*.onnx")}
    assert field | qoperator == {*FILES, *_OTHERWISE}
    assert len(field | qoperator) == 51


@pytest.mark.parametrize("name", FILES)
def test_c_computes_the_right_integers(name: str) -> None:
    path = model(name)
    program = pefslc.compile(path, target="c", require_exact=True)
    assert program.exact
    assert program.sidecar.details["exact_to"] == "the file"
    right(program, path)


@pytest.mark.parametrize("name", FILES)
def test_the_tcu_computes_them_or_says_what_helps(name: str) -> None:
    """What is refused compiles for C, as the advice says: the test above."""
    path, expected = model(name), FILES[name]
    if not expected.refused:
        program = pefslc.compile(path, target="tensil")
        assert program.exact
        right(program, path)
        return
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(path, target="tensil")
    problems = caught.value.problems
    assert " ".join(sorted({p.code.number for p in problems})) == expected.refused
    assert all("--target c" in (p.hint or "") for p in problems)


@pytest.mark.parametrize("name", [name for name, expected in FILES.items() if expected.wide])
def test_the_tcu_with_wider_words_computes_them_as_the_advice_says(name: str, tmp_path: Path) -> None:
    tarch = tmp_path / "wide.tarch"
    architecture = replace(load_architecture("pynqz1"), data_type=DataType.FP32BP16)
    tarch.write_text(json.dumps(architecture.to_json_dict()))
    path = model(name)
    right(pefslc.compile(path, target="tensil", arch=tarch, require_exact=True), path)
