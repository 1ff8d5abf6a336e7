"""Networks that ONNX Runtime quantizes: `quantize_static` and `quantize_dynamic`, with the settings that people use."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from field_model import FieldModel

from exporters.exact_evaluation import evaluate
from exporters.float_networks import float_network, inputs_of

__all__ = ["NEEDS", "models"]

NEEDS = ("onnxruntime", "sympy")

_CALIBRATION = 8  # inputs
_ROWS = 4  # that are compared


@dataclass(frozen=True)
class Setting:
    """How a network is quantized; types are members of onnxruntime's QuantType.

    prepares    quant_pre_process first, which folds BatchNormalization
    keeps_norm  whether the float network has BatchNormalization
    options     `extra_options` of quantize_static
    only        the types of nodes that are quantized; empty: all that can be
    without     types of nodes that stay floats
    """

    fmt: str = "QDQ"
    activation: str = "QUInt8"
    weight: str = "QInt8"
    per_channel: bool = False
    prepares: bool = True
    keeps_norm: bool = True
    method: str = "MinMax"
    reduce_range: bool = False
    opset: int = 17
    options: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


QDQ, QOPERATOR, DYNAMIC = (
    "onnxruntime quantize_static, QDQ", "onnxruntime quantize_static, QOperator", "onnxruntime quantize_dynamic",
)  # fmt: skip
CHANNELS = Setting(per_channel=True)
_SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}
SYMMETRIC = Setting(activation="QInt8", per_channel=True, options=_SYMMETRIC)
UNSIGNED = Setting(weight="QUInt8")
OPERATORS = Setting("QOperator", weight="QUInt8")  # as the int8 files of ONNX' model zoo have it
OPERATORS_INT8 = Setting("QOperator", activation="QInt8", per_channel=True)
NORM_KEPT = Setting(prepares=False, per_channel=True)
SIXTEEN = Setting(activation="QUInt16", weight="QInt8", per_channel=True)

_EVERYWHERE = ("resnet18", "mobilenet_v2", "unet", "unet_resize", "yolo", "yolo_leaky", "ds_cnn", "mlp")
MODELS: tuple[tuple[str, str, Setting], ...] = (
    *((name, "qdq", Setting()) for name in (*_EVERYWHERE, "resnet18_full", "mobilenet_v3", "autoencoder")),
    *((name, "qdq_channels", CHANNELS) for name in _EVERYWHERE),
    *((name, "qdq_symmetric", SYMMETRIC) for name in _EVERYWHERE),
    *((name, "qdq_unsigned", UNSIGNED) for name in ("resnet18", "mobilenet_v2", "unet", "ds_cnn")),
    *((name, "qoperator", OPERATORS) for name in (*_EVERYWHERE, "mobilenet_v3", "autoencoder")),
    *((name, "qoperator_int8", OPERATORS_INT8) for name in _EVERYWHERE),
    *((name, "qdq_norm_kept", NORM_KEPT) for name in ("resnet18", "autoencoder", "unet")),
    *((name, "qdq_16", SIXTEEN) for name in ("mobilenet_v2", "ds_cnn", "yolo")),
    ("resnet18", "qdq_16_signed", Setting(activation="QInt16", weight="QInt16", options={"ActivationSymmetric": True})),
    ("ds_cnn", "qdq_16_opset21", Setting(activation="QUInt16", per_channel=True, opset=21)),
    ("resnet18", "qdq_percentile", Setting(per_channel=True, method="Percentile")),
    ("resnet18", "qdq_entropy", Setting(method="Entropy")),
    ("resnet18", "qdq_reduce_range", Setting(per_channel=True, reduce_range=True)),
    ("mobilenet_v2", "qdq_weights_in_pairs", Setting(options={"AddQDQPairToWeight": True})),
    ("mobilenet_v2", "qdq_float_bias", Setting(per_channel=True, options={"QuantizeBias": False})),
    ("mobilenet_v2", "qdq_dedicated_pairs", Setting(options={"DedicatedQDQPair": True})),
    ("unet", "qdq_dedicated_pairs", Setting(per_channel=True, options={"DedicatedQDQPair": True})),
    ("yolo", "qdq_forced", Setting(options={"ForceQuantizeNoInputCheck": True})),
    ("resnet18", "qdq_tensorrt", Setting(activation="QInt8", per_channel=True, options={
        **_SYMMETRIC, "AddQDQPairToWeight": True, "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "Add"]})),
    *((name, fmt, setting) for name in ("squeezenet", "shufflenet", "densenet", "efficientnet_lite")
      for fmt, setting in (("qdq_channels", CHANNELS), ("qoperator", OPERATORS))),
    ("resnet18", "qdq_convolutions_only", Setting(only=("Conv", "Gemm"), per_channel=True)),
    ("resnet18", "qdq_dense_layer_float", Setting(without=("Gemm",), per_channel=True)),
    ("resnet18", "qoperator_convolutions_only", Setting("QOperator", only=("Conv", "Gemm"))),
    ("unet", "qdq_int4_weights", Setting(weight="QInt4", opset=21)),
    ("ds_cnn", "dynamic", Setting("dynamic")),
    ("mlp", "dynamic", Setting("dynamic", per_channel=True)),
    ("mlp", "dynamic_unsigned", Setting("dynamic", weight="QUInt8")),
)  # fmt: skip


def models() -> list[FieldModel]:
    """One for each row of the table."""
    exporters = {"QDQ": QDQ, "QOperator": QOPERATOR, "dynamic": DYNAMIC}
    return [
        FieldModel(exporters[setting.fmt], f"{network}_{name}", partial(write, network, f"{network}_{name}", setting))
        for network, name, setting in MODELS
    ]


def write(network: str, name: str, setting: Setting, folder: Path) -> None:
    """Quantize the network, and evaluate the file by ONNX Runtime without optimizations, and exactly."""
    import onnxruntime

    path = folder / f"{name}.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "float.onnx"
        onnx.save(float_network(network, setting.keeps_norm, setting.opset), source)
        logging.disable(logging.WARNING)  # it says at each model that it should be prepared
        try:
            _quantize(network, setting, source, path)
        finally:
            logging.disable(logging.NOTSET)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = inputs_of(network, _ROWS, seed=1)
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(names, {"input": row[None]}) for row in x]
    arrays = {name: np.concatenate(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)}
    if setting.fmt != "dynamic":
        model = onnx.load(path)
        exact = [evaluate(model, {"input": row[None]}) for row in x]
        found = {name: np.concatenate([values[name] for values in exact]) for name in names}
        if len(names) == 1:
            arrays["y_ref64"] = found[names[0]]
        else:
            np.savez(folder / f"{name}.exact.npz", input=x, **found)
    np.savez(folder / f"{name}.npz", input=x, **arrays)


def _quantize(network: str, setting: Setting, source: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if setting.prepares:
        prepared = source.with_name("prepared.onnx")
        quant_pre_process(source, prepared)
        source = prepared
    weight = QuantType[setting.weight]
    if setting.fmt == "dynamic":
        quantize_dynamic(source, target, per_channel=setting.per_channel, weight_type=weight)
        return
    quantize_static(
        source,
        target,
        _reader(network),
        quant_format=QuantFormat[setting.fmt],
        per_channel=setting.per_channel,
        reduce_range=setting.reduce_range,
        activation_type=QuantType[setting.activation],
        weight_type=weight,
        calibrate_method=CalibrationMethod[setting.method],
        op_types_to_quantize=list(setting.only) or None,
        nodes_to_exclude=[n.name for n in onnx.load(source).graph.node if n.op_type in setting.without],
        extra_options=dict(setting.options),
    )


def _reader(network: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(inputs_of(network, _CALIBRATION))

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {"input": row[None]}

    return Reader()
