"""Keras: quantized by TensorFlow Lite and converted by tf2onnx; QKeras networks converted by qonnx.

qonnx has its converter up to 0.4; QKeras 0.9 needs tf_keras and pyparsing below 3.3.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from field_model import FieldModel

from exporters.exact_evaluation import write_definition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NEEDS", "models"]

NEEDS: tuple[str, ...] = ("tensorflow", "tf2onnx", "tf_keras", "qkeras", "qonnx")


def models() -> list[FieldModel]:
    """TFLite's full-integer quantization with ends of floats and of integers, and with 16-bit activations; QKeras."""
    lite = [
        *((name, ends, False) for name in ("cnn", "mobilenet", "resnet", "kws") for ends in ("float32",)),
        *(("cnn", ends, False) for ends in ("int8", "uint8")),
        ("cnn", "float32", True),
    ]
    found = []
    for name, ends, wide in lite:
        title = f"tflite_{name}_{'16x8' if wide else ends}"
        write = partial(_write_lite, title, name, ends, wide)
        found.append(FieldModel("tf2onnx of a TFLite model", title, write))
    for name in ("mlp", "cnn", "binary", "ternary", "ternary_of_another_threshold"):
        title = f"qkeras_{name}"
        # The converter leaves out the quantizer of the input.
        found.append(FieldModel("qonnx of QKeras", title, partial(_write_qkeras, title, name), {"input_fmt": "Q1.7"}))
    return found


def _tensorflow() -> Any:
    """The package, quiet, without GPU, and with the Keras that QKeras knows: it reads these when it is imported."""
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    import tensorflow

    return tensorflow


def _pictures(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32) / 256


def _network(name: str) -> Any:
    """A Keras model of one picture."""
    tf = _tensorflow()
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    inputs = layers.Input((49, 10, 1) if name == "kws" else (16, 16, 3), batch_size=1)

    def conv(x: Any, filters: int, kernel: Any = 3, strides: int = 1, top: float | None = 6.0) -> Any:
        x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False)(x)
        return layers.ReLU(top)(layers.BatchNormalization()(x))

    def depthwise(x: Any, top: float | None = 6.0) -> Any:
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        return layers.ReLU(top)(layers.BatchNormalization()(x))

    x = conv(inputs, 8, (10, 4) if name == "kws" else 3, 2)
    match name:
        case "cnn":
            x = layers.MaxPooling2D()(conv(x, 16, top=None))
            x = layers.Flatten()(layers.AveragePooling2D()(x))
            x = layers.Dense(16, "relu")(x)
        case "mobilenet":
            for _ in range(2):
                y = layers.Conv2D(8, 1)(depthwise(conv(x, 24, 1)))
                x = layers.Add()([x, layers.BatchNormalization()(y)])
        case "resnet":
            y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(conv(x, 8, top=None)))
            x = layers.ReLU()(layers.Add()([x, y]))
            y = layers.Conv2D(16, 3, 2, padding="same")(x)
            x = layers.Concatenate()([layers.MaxPooling2D()(x), layers.LeakyReLU()(y)])
            x = layers.UpSampling2D()(x)
        case "kws":
            for _ in range(2):
                x = conv(depthwise(x, None), 8, 1, top=None)
    if name != "cnn":
        x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, layers.Softmax()(layers.Dense(10)(x)))


def _write_lite(title: str, name: str, ends: str, wide: bool, folder: Path) -> None:
    """The file, and inputs: what TFLite's interpreter gives for them is rounded otherwise than ONNX says."""
    tf = _tensorflow()
    import tf2onnx

    net = _network(name)
    pictures = _pictures((16, *net.input_shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in pictures)
    sets = tf.lite.OpsSet
    wide_set = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    converter.target_spec.supported_ops = [wide_set if wide else sets.TFLITE_BUILTINS_INT8]
    if ends != "float32":
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(ends)
    lite = folder / f"{title}.tflite"
    lite.write_bytes(converter.convert())
    path = folder / f"{title}.onnx"
    proto, _ = tf2onnx.convert.from_tflite(str(lite), opset=13, output_path=str(path))
    lite.unlink()
    x = pictures[:4]
    if ends != "float32":
        x = np.random.default_rng(1).integers(-128 if ends == "int8" else 0, 128, x.shape).astype(ends)
    np.savez(path.with_suffix(".npz"), **{proto.graph.input[0].name: x})
    write_definition(path)


def _write_qkeras(title: str, name: str, folder: Path) -> None:
    """The file, and what QKeras computes in float32."""
    tf = _tensorflow()
    import qkeras as q
    import tf2onnx.optimizer  # noqa: F401  qonnx reads it, and does not import it
    from qonnx.converters import keras as converters

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    weights: Callable[[], Any] = {
        "binary": lambda: q.binary(alpha=1),
        "ternary": lambda: q.ternary(alpha=1, threshold=0.5),
        "ternary_of_another_threshold": lambda: q.ternary(alpha=1, threshold=0.1),
    }.get(name, lambda: q.quantized_bits(6, 0, alpha=1))
    flat = name != "cnn"
    inputs = layers.Input((16,) if flat else (8, 8, 3), name="x")
    x = q.QActivation(q.quantized_bits(8, 0, alpha=1), name="q0")(inputs)
    if not flat:
        x = q.QConv2D(8, 3, kernel_quantizer=weights(), bias_quantizer=weights(), name="c1")(x)
        x = q.QActivation(q.quantized_relu(6, 2), name="q1")(x)
        x = layers.MaxPooling2D(name="pool")(x)
        x = layers.Flatten(name="flat")(x)
    for i in (2, 3):
        bias = {"use_bias": False} if name.startswith(("binary", "ternary")) else {"bias_quantizer": weights()}
        x = q.QDense(16, kernel_quantizer=weights(), name=f"d{i}", **bias)(x)
        x = q.QActivation(q.quantized_relu(6, 2), name=f"q{i}")(x)
    x = q.QDense(5, kernel_quantizer=weights(), bias_quantizer=q.quantized_bits(8, 2, alpha=1), name="d4")(x)
    net = tf.keras.Model(inputs, x)
    for weight in net.weights:  # norms and biases begin at 0
        if "bias" in weight.name:
            weight.assign(np.random.default_rng(2).uniform(-0.5, 0.5, weight.shape))
    x = 2 * _pictures((4, *net.input_shape[1:])) - 1
    proto, _ = converters.from_keras(net, opset=13)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    (folder / f"{title}.onnx").write_bytes(proto.SerializeToString())
    expected = np.asarray(net(x))
    np.savez(folder / f"{title}.npz", **{proto.graph.input[0].name: x, proto.graph.output[0].name: expected})
