"""Which operators are imported. The function of each checks the node, adds our operations, returns its results."""

from __future__ import annotations

from collections.abc import Callable

from pefslc.frontend.broadcasting import import_expand
from pefslc.frontend.builder import Builder, HostTail, IntegerTensor
from pefslc.frontend.elementwise import (
    FOREIGN_FUNCTIONS,
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
from pefslc.frontend.gathering import import_concat
from pefslc.frontend.integer_checks import INTEGER_OPERATORS, import_integer_operator
from pefslc.frontend.integers import also_for_integers, import_cast
from pefslc.frontend.linear_quantizers import import_dequantize_linear, import_quantize_linear
from pefslc.frontend.movement import (
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
    import_global_max_pool,
    import_max_pool,
)
from pefslc.frontend.products import import_conv, import_conv_transpose, import_gemm, import_matmul
from pefslc.frontend.quantizers import import_bipolar_quant, import_quant, import_trunc
from pefslc.frontend.reductions import import_reduction
from pefslc.frontend.resizing import import_resize
from pefslc.frontend.rounded import import_rounded
from pefslc.frontend.rounding_chains import DOMAIN, ROUNDINGS
from pefslc.frontend.rows import also_for_rows
from pefslc.frontend.shuffles import import_depth_to_space, import_space_to_depth
from pefslc.frontend.tails import import_arg_max, import_log_softmax, import_softmax
from pefslc.ir.value import Value

__all__ = ["OPERATORS"]

Imported = Value | tuple[Value, ...] | IntegerTensor | tuple[IntegerTensor, ...] | HostTail

OPERATORS: dict[tuple[str, str], Callable[[Builder, Node], Imported]] = {
    ("qonnx", "Quant"): also_for_rows(import_quant),
    ("qonnx", "IntQuant"): also_for_rows(import_quant),
    ("qonnx", "BipolarQuant"): also_for_rows(import_bipolar_quant),
    ("qonnx", "Trunc"): also_for_rows(import_trunc),
    ("", "QuantizeLinear"): also_for_rows(import_quantize_linear),
    ("", "DequantizeLinear"): import_dequantize_linear,
    ("com.microsoft", "QuantizeLinear"): also_for_rows(import_quantize_linear),
    ("com.microsoft", "DequantizeLinear"): import_dequantize_linear,
    ("", "Conv"): also_for_sequences(import_conv),
    ("", "ConvTranspose"): also_for_sequences(import_conv_transpose),
    ("", "Gemm"): import_gemm,
    ("", "MatMul"): import_matmul,
    ("", "BatchNormalization"): import_batch_norm,
    ("", "Softmax"): import_softmax,
    ("", "LogSoftmax"): import_log_softmax,
    ("", "ArgMax"): import_arg_max,
    ("", "Relu"): also_for_rows(import_relu),
    ("", "LeakyRelu"): also_for_rows(import_leaky_relu),
    ("", "PRelu"): also_for_rows(import_prelu),
    ("", "Clip"): also_for_rows(import_clip),
    ("", "MaxPool"): also_for_integers(also_for_sequences(import_max_pool)),
    ("", "AveragePool"): also_for_sequences(import_average_pool),
    ("", "GlobalAveragePool"): also_for_sequences(import_global_average_pool),
    ("", "GlobalMaxPool"): also_for_integers(also_for_sequences(import_global_max_pool)),
    ("", "ReduceMean"): import_reduction,
    ("", "ReduceSum"): import_reduction,
    ("", "ReduceMax"): also_for_integers(import_reduction),
    ("", "ReduceMin"): import_reduction,
    ("", "DepthToSpace"): also_for_integers(import_depth_to_space),
    ("", "SpaceToDepth"): also_for_integers(import_space_to_depth),
    ("", "Add"): also_for_rows(import_add),
    ("", "Mul"): also_for_rows(import_mul),
    ("", "Div"): also_for_rows(import_div),
    ("", "Sub"): also_for_rows(import_sub),
    ("", "Neg"): also_for_rows(import_neg),
    **{("", name): also_for_rows(import_function) for name in FUNCTIONS},
    **{("com.microsoft", name): also_for_rows(import_function) for name in FOREIGN_FUNCTIONS},
    ("", "Expand"): import_expand,
    ("", "Concat"): also_for_integers(import_concat),
    ("", "Flatten"): also_for_integers(import_flatten),
    ("", "Reshape"): also_for_integers(import_reshape),
    ("", "Squeeze"): also_for_integers(import_squeeze),
    ("", "Unsqueeze"): also_for_integers(import_unsqueeze),
    ("", "Transpose"): also_for_integers(import_transpose),
    ("", "Pad"): also_for_integers(import_pad),
    ("", "Slice"): also_for_integers(import_slice),
    ("", "Split"): also_for_integers(import_split),
    ("", "Gather"): also_for_integers(import_gather),
    ("", "Resize"): also_for_integers(import_resize),
    ("", "Upsample"): also_for_integers(import_resize),
    ("", "Cast"): import_cast,
    ("", "Identity"): also_for_integers(import_identity),
    ("", "Dropout"): also_for_integers(import_identity),
    **{(DOMAIN, name): also_for_rows(import_rounded) for name in ROUNDINGS},
    **dict.fromkeys(INTEGER_OPERATORS, import_integer_operator),
}
