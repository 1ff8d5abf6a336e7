"""What a float network computes in given formats, without building it of quantizers: for many formats in a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pefslc.numeric.format import FixedPoint
from pefslc.train.tensor_formats import TensorFormats

__all__ = ["FakeQuantized"]


class FakeQuantized(nn.Module):  # type: ignore[misc]  # mypy sees torch as Any
    """A float network, its BatchNorms folded, that computes what `with_quantizers(network, formats)` does, bit for bit.

    Set `formats` before a call. Quantized weights are kept, so that each format of a layer is rounded to once.
    """

    def __init__(self, network: nn.Module, formats: TensorFormats) -> None:
        super().__init__()
        self.network, self.formats = network, formats
        self.parameters_of = dict(network.named_parameters())
        self.kept: dict[tuple[str, FixedPoint], Tensor] = {}
        for name, module in network.named_modules():
            if name in formats.results:
                module.register_forward_hook(lambda _module, _inputs, x, at=name: _rounded(x, self.formats.results[at]))

    def forward(self, x: Tensor) -> Tensor:
        formats = self.formats
        parts = {f"{name}.weight": fmt for name, fmt in formats.weights.items()}
        parts |= {f"{name}.bias": fmt for name, fmt in formats.biases.items()}
        rounded = {name: self.parameter(name, fmt) for name, fmt in parts.items()}
        return functional_call(self.network, rounded, (_rounded(x, formats.input),))

    def parameter(self, name: str, fmt: FixedPoint) -> Tensor:
        key = name, fmt
        if key not in self.kept:
            self.kept[key] = _rounded(self.parameters_of[name].detach(), fmt)
        return self.kept[key]


def _rounded(x: Tensor, fmt: FixedPoint) -> Tensor:
    """`numeric.quantize` and back, on torch's tensors, where they are: a test holds the two equal on small formats.

    Scales are powers of two: of the operations only the rounding, half to even, rounds.
    """
    q = fmt.quantization
    step = float(q.scale.step)
    return torch.clamp(torch.round(x / step), q.low, q.high) * step
