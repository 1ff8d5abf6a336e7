"""A network with its quantizers pinned: their scales constants, its weights and biases as they were quantized.

Two things need it. The exporter writes raw weights and always says ROUND, which is another network for every other
rounding; quantized weights are their own rounding. And a scale that is computed in float64 differs from the float32 one
of the file in its last bit, so that a float64 evaluation must be given the scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from brevitas.proxy.runtime_quant import ActQuantProxyFromInjectorBase
from torch import Tensor, nn

from pefslc.train.network import copy_of, run

__all__ = ["activation_quantizers", "as_float64", "pin"]


def pin(model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """A copy of `model`, in eval mode, with every quantizer as it was in a forward of `inputs`.

    Quantizers whose scale changes from call to call stay as they are, and so do layers that the forward leaves out.
    """
    pinned = copy_of(model).eval()
    calls = _record(pinned, inputs)
    parameters = [(layer, name, calls.of(layer, name)) for layer, name in _quantized_parameters(pinned)]
    for layer, name, call in parameters:
        if call is not None:
            # One of its own, as layers may share it; and not by setattr, for which Brevitas makes the quantizer anew.
            layer._parameters[name] = nn.Parameter(call.values.clone())
            getattr(layer, f"{name}_quant").tensor_quant = _AlreadyQuantized(call.metadata)
    for _, proxy in activation_quantizers(pinned):
        fused = proxy.fused_activation_quant_proxy
        metadata = calls.constants(fused.tensor_quant)
        if metadata is not None and hasattr(fused.tensor_quant, "int_quant"):
            fused.tensor_quant = _ConstantScale(fused.tensor_quant.int_quant, metadata)
    return pinned


def as_float64(pinned: nn.Module) -> nn.Module:
    """A copy of a pinned network that computes in float64: the same codes, times scales that are the same numbers."""
    model = deepcopy(pinned).double()
    for module in model.modules():
        if isinstance(module, _Pinned):
            module.widen()
    for layer, name in _quantized_parameters(model):
        parameter, quantizer = getattr(layer, name), getattr(layer, f"{name}_quant").tensor_quant
        if isinstance(quantizer, _AlreadyQuantized):
            scale = quantizer.metadata[0]
            parameter.data = torch.round(parameter.data / scale) * scale
    return model


def activation_quantizers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(layer's name, proxy) of every enabled activation quantizer."""
    for name, module in model.named_modules():
        if isinstance(module, ActQuantProxyFromInjectorBase) and module.is_quant_enabled:
            yield name.rpartition(".")[0], module


def _quantized_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """(layer, "weight" or "bias") of every parameter with an enabled quantizer."""
    for layer in model.modules():
        for name in ("weight", "bias"):
            proxy = getattr(layer, f"{name}_quant", None)
            if getattr(proxy, "is_quant_enabled", False) and getattr(layer, name, None) is not None:
                yield layer, name


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a parameter's quantizer: what it got, what it made of it, and the metadata: scale, zero point..."""

    parameter: Tensor
    values: Tensor
    metadata: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class _Calls:
    """What the quantizers of a network did in one forward, by their id."""

    on_parameters: dict[int, list[_Call]] = field(default_factory=dict)
    on_activations: dict[int, list[tuple[Tensor, ...]]] = field(default_factory=dict)  # their metadata

    def of(self, layer: nn.Module, name: str) -> _Call | None:
        """The call on the layer's own parameter; layers may share a quantizer."""
        parameter, quantizer = getattr(layer, name), getattr(layer, f"{name}_quant").tensor_quant
        for call in self.on_parameters[id(quantizer)]:
            if call.parameter.data_ptr() == parameter.data_ptr() and call.parameter.shape == parameter.shape:
                return call
        return None

    def constants(self, quantizer: nn.Module) -> tuple[Tensor, ...] | None:
        """Scale, zero point, bit width, where all calls of an activation quantizer had the same; else None."""
        found = self.on_activations[id(quantizer)]
        if not found or any(not torch.equal(a, b) for f in found for a, b in zip(f, found[0], strict=True)):
            return None
        return found[0]


def _record(model: nn.Module, inputs: Sequence[Tensor]) -> _Calls:
    """The calls of every quantizer of `model` in one forward."""
    calls, handles = _Calls(), []

    def on_parameter(quantizer: nn.Module, arguments: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        calls.on_parameters[id(quantizer)].append(_Call(arguments[0], outputs[0], outputs[1:]))

    def on_activation(quantizer: nn.Module, _: object, outputs: tuple[Tensor, ...]) -> None:
        calls.on_activations[id(quantizer)].append(outputs[1:])

    for layer, name in _quantized_parameters(model):
        quantizer = getattr(layer, f"{name}_quant").tensor_quant
        if id(quantizer) not in calls.on_parameters:
            calls.on_parameters[id(quantizer)] = []
            handles.append(quantizer.register_forward_hook(on_parameter))
    for _, proxy in activation_quantizers(model):
        quantizer = proxy.fused_activation_quant_proxy.tensor_quant
        calls.on_activations[id(quantizer)] = []
        handles.append(quantizer.register_forward_hook(on_activation))
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


class _Pinned(nn.Module):  # type: ignore[misc]  # mypy sees torch as Any
    """A quantizer that no longer computes its metadata: scale, zero point, bit width, and what else it returned.

    They are no buffers: the exporter writes equal buffers once, and the other readers as copies of the one.
    """

    def __init__(self, metadata: Sequence[Tensor]) -> None:
        super().__init__()
        self.metadata = tuple(t.detach().clone() for t in metadata)

    def widen(self) -> None:
        """Metadata in float64, where they are floats."""
        self.metadata = tuple(t.double() if t.is_floating_point() else t for t in self.metadata)


class _AlreadyQuantized(_Pinned):
    """The quantizer of a parameter that holds the quantized values."""

    def forward(self, parameter: Tensor, *_: object) -> tuple[Tensor, ...]:
        return (parameter, *self.metadata)


class _ConstantScale(_Pinned):
    """An activation quantizer: Brevitas' own rounding and clipping, at a scale that is a constant."""

    def __init__(self, int_quant: nn.Module, metadata: Sequence[Tensor]) -> None:
        super().__init__(metadata)
        self.int_quant = int_quant

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        scale, zero_point, bit_width = self.metadata
        return (self.int_quant(scale, zero_point, bit_width, x), scale, zero_point, bit_width)
