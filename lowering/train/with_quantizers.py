"""A float network with Brevitas' quantizers in given formats: what fine-tuning begins with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from brevitas import nn as qnn
from torch import nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.numeric.format import FixedPoint
from pefslc.train.network import copy_of, require_network
from pefslc.train.quantizers import activation_quantizer, bias_quantizer, weight_quantizer
from pefslc.train.tensor_formats import TensorFormats

__all__ = ["QuantizedInput", "with_quantizers"]

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_WITH_WEIGHTS = (nn.modules.conv._ConvNd, nn.Linear)


class QuantizedInput(nn.Module):  # type: ignore[misc]  # mypy sees torch as Any
    """A network behind the quantizer of its input."""

    def __init__(self, input: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.input, self.network = input, network

    def forward(self, x: object) -> object:
        return self.network(self.input(x))


def with_quantizers(network: nn.Module, formats: TensorFormats) -> QuantizedInput:
    """A copy of a float network that computes in `formats`, rounding half to even and saturating; it can be trained.

    network   of torch's convolutions and linear layers, one input, its BatchNorms folded (`fold_batchnorm`)
    formats   by the names of its modules: `formats_of`

    The parameters keep their names, behind `network.`. Raises CompileError, which names every layer without a format
    and every format without a layer.
    """
    require_network(network)
    made = copy_of(network)
    modules = dict(made.named_modules())
    problems = list(_problems(modules, formats))
    if problems:
        raise CompileError.of(problems)
    for name, fmt in formats.weights.items():
        _replace(made, name, _quantized_layer(modules[name], fmt, formats.biases.get(name), formats.results.get(name)))
    for name, fmt in formats.results.items():
        if name not in formats.weights:
            _replace(made, name, nn.Sequential(modules[name], qnn.QuantIdentity(act_quant=activation_quantizer(fmt))))
    first = qnn.QuantIdentity(act_quant=activation_quantizer(formats.input))
    quantized = QuantizedInput(first, made)
    quantized.train(network.training)
    return quantized


def _problems(modules: Mapping[str, nn.Module], formats: TensorFormats) -> Iterator[Problem]:
    layers = {name: m for name, m in modules.items() if isinstance(m, _WITH_WEIGHTS)}
    for name, layer in layers.items():
        if type(layer) not in _LAYERS:
            yield _problem(f"{quote(name)} is a {type(layer).__name__}, not a layer of torch that can be quantized")
        elif name not in formats.weights:
            yield _problem(f"the weights of {quote(name)} have no format")
        elif layer.bias is not None and name not in formats.biases:
            yield _problem(f"the bias of {quote(name)} has no format")
    for part in (formats.weights, formats.biases):
        for name in part.keys() - layers.keys():
            yield _problem(f"there is a format for the layer {quote(name)}, and no such layer")
    for name in formats.results.keys() - modules.keys():
        yield _problem(f"there is a format for {quote(name)}, and no such module")


def _problem(message: str) -> Problem:
    hint = "formats_of names the modules of the network that was compiled: give that one, with its BatchNorms folded"
    return Problem(Code.TENSOR_FORMATS, message, hint=hint)


def _quantized_layer(
    layer: nn.Module, weight: FixedPoint, bias: FixedPoint | None, result: FixedPoint | None
) -> nn.Module:
    """Brevitas' layer with the parameters of `layer`."""
    options = {
        "bias": layer.bias is not None,
        "weight_quant": weight_quantizer(weight),
        "bias_quant": None if layer.bias is None or bias is None else bias_quantizer(bias),
        "output_quant": None if result is None else activation_quantizer(result),
    }
    if isinstance(layer, nn.Linear):
        made = qnn.QuantLinear(layer.in_features, layer.out_features, **options)
    else:
        kind = qnn.QuantConv2d if isinstance(layer, nn.Conv2d) else qnn.QuantConv1d
        window = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
        made = kind(layer.in_channels, layer.out_channels, layer.kernel_size, **window, **options)
    made.load_state_dict(layer.state_dict())
    return made.train(layer.training)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)
