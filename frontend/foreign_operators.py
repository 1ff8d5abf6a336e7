"""Operators of other compilers' own, and of networks without fixed formats: what helps who has them."""

from __future__ import annotations

__all__ = ["hint_for"]

_FINN = "a step of FINN made it of a QONNX file: give that file, as Brevitas' export_qonnx writes it"
_RECURRENT = "recurrent layers are not supported: use convolutions over time, or give one step without the loop"
_NORMS = "norms of the data have no fixed format: train with BatchNormalization"
_VITIS = "quantize to ONNX's own operators, for example with onnxruntime's quantize_static and QuantFormat.QDQ"
_FUSED = (
    "ONNX Runtime fused it when it saved an optimized model: give the model from before, or save it with "
    "graph_optimization_level = ORT_ENABLE_BASIC"
)

_OPERATORS = {
    "Attention": "products of two activations are not supported: end the network before the attention",
    "BatchMatMul": "products of two activations are not supported",
    "FloatQuant": "use integer quantizers: minifloat formats have no fixed-point twin",
    "GRU": _RECURRENT,
    "GroupNormalization": _NORMS,
    "Im2Col": _FINN,
    "InstanceNormalization": _NORMS,
    "LRN": _NORMS,
    "LSTM": _RECURRENT,
    "LayerNormalization": _NORMS,
    "MatMulNBits": "weights in blocks are not supported: quantize them per tensor or per output channel",
    "MeanVarianceNormalization": _NORMS,
    "MultiThreshold": _FINN,
    "QuantAvgPool2d": _FINN,
    "RMSNormalization": _NORMS,
    "RNN": _RECURRENT,
    "XnorPopcountMatMul": _FINN,
}
_DOMAINS = {
    "com.amd.quark": _VITIS,
    "com.microsoft": _FUSED,
    "com.microsoft.nchwc": _FUSED,
    "com.ms.internal.nhwc": _FUSED,
    "com.vai.quantize": _VITIS,
    "qonnx.custom_op.channels_last": "QONNX moved the channels last: give the file from before that step",
}


def hint_for(domain: str, operator: str) -> str:
    """What to do about an operator that is not read."""
    known = _OPERATORS.get(operator) or _DOMAINS.get(domain)
    return known or "`pefslc explain operators` lists what is; replace it in the model"
