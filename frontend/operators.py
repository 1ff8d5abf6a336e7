"""Which operators are imported. The function of each checks the node, adds our operations, returns its results."""

from __future__ import annotations

from collections.abc import Callable

from pefslc.frontend.builder import Builder, HostTail, IntegerTensor
from pefslc.frontend.elementwise import (
    FUNCTIONS,
    import_add,
    import_batch_norm,
    import_clip,
    import_div,
    import_function,
    import_leaky_relu,
    import_mul,
    import_neg,
    import_prelu,
    import_relu,
    import_sub,
)
from pefslc.frontend.integer_checks import INTEGER_OPERATORS, import_integer_operator
from pefslc.frontend.integer_inputs import import_cast
from pefslc.frontend.linear_quantizers import import_dequantize_linear, import_quantize_linear
from pefslc.frontend.movement import (
    import_concat,
    import_flatten,
    import_identity,
    import_reshape,
    import_squeeze,
    import_transpose,
    import_unsqueeze,
)
from pefslc.frontend.node import Node
from pefslc.frontend.one_dimensional import also_for_sequences
from pefslc.frontend.padding import import_pad
from pefslc.frontend.parts import import_gather, import_slice, import_split
from pefslc.frontend.pools import (
    import_average_pool,
    import_global_average_pool,
    import_max_pool,
    import_reduce_mean,
)
from pefslc.frontend.products import import_conv, import_conv_transpose, import_gemm, import_matmul
from pefslc.frontend.quantizers import import_bipolar_quant, import_quant, import_trunc
from pefslc.frontend.resizing import import_resize
from pefslc.frontend.tails import import_arg_max, import_log_softmax, import_softmax
from pefslc.ir.value import Value

__all__ = ["OPERATORS"]

OPERATORS: dict[tuple[str, str], Callable[[Builder, Node], Value | tuple[Value, ...] | IntegerTensor | HostTail]] = {
    ("qonnx", "Quant"): import_quant,
    ("qonnx", "IntQuant"): import_quant,
    ("qonnx", "BipolarQuant"): import_bipolar_quant,
    ("qonnx", "Trunc"): import_trunc,
    ("", "QuantizeLinear"): import_quantize_linear,
    ("", "DequantizeLinear"): import_dequantize_linear,
    ("com.microsoft", "QuantizeLinear"): import_quantize_linear,
    ("com.microsoft", "DequantizeLinear"): import_dequantize_linear,
    ("", "Conv"): also_for_sequences(import_conv),
    ("", "ConvTranspose"): also_for_sequences(import_conv_transpose),
    ("", "Gemm"): import_gemm,
    ("", "MatMul"): import_matmul,
    ("", "BatchNormalization"): import_batch_norm,
    ("", "Cast"): import_cast,
    ("", "Softmax"): import_softmax,
    ("", "LogSoftmax"): import_log_softmax,
    ("", "ArgMax"): import_arg_max,
    ("", "Relu"): import_relu,
    ("", "LeakyRelu"): import_leaky_relu,
    ("", "PRelu"): import_prelu,
    ("", "Clip"): import_clip,
    ("", "MaxPool"): also_for_sequences(import_max_pool),
    ("", "AveragePool"): also_for_sequences(import_average_pool),
    ("", "GlobalAveragePool"): also_for_sequences(import_global_average_pool),
    ("", "ReduceMean"): also_for_sequences(import_reduce_mean),
    ("", "Add"): import_add,
    ("", "Mul"): import_mul,
    ("", "Div"): import_div,
    ("", "Sub"): import_sub,
    ("", "Neg"): import_neg,
    **{("", name): import_function for name in FUNCTIONS},
    ("", "Concat"): import_concat,
    ("", "Flatten"): import_flatten,
    ("", "Reshape"): import_reshape,
    ("", "Squeeze"): import_squeeze,
    ("", "Unsqueeze"): import_unsqueeze,
    ("", "Transpose"): import_transpose,
    ("", "Pad"): import_pad,
    ("", "Slice"): import_slice,
    ("", "Split"): import_split,
    ("", "Gather"): import_gather,
    ("", "Resize"): import_resize,
    ("", "Upsample"): import_resize,
    ("", "Identity"): import_identity,
    ("", "Dropout"): import_identity,
    **dict.fromkeys(INTEGER_OPERATORS, import_integer_operator),
}
