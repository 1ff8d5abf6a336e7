"""Channel pruning inside of blocks: whole channels between their convolutions go, what blocks hand on stays.

So sums with the shortcut need no rearranging, and features keep their length. On a systolic array the cycles of a layer
are those of whole multiples of the array: 15 of 16 channels cost what 16 do, so widths should be multiples of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.networks.backbones import Backbone
from pefslc.fewshot.networks.training import Trained

__all__ = ["prune", "pruned", "pruned_widths"]


def pruned_widths(inner: Sequence[int], share: float, array: int) -> tuple[int, ...]:
    """Channels to keep in each block: the nearest multiple of `array` to `share` of them, at most as many as there are.

    share  above 0, at most 1: 0.6 makes 12, 24, 48 of 16, 40, 80 for an array of 12; with 1 all stay
    """
    if not 0 < share <= 1 or array < 1:
        raise CompileError(
            Code.PRUNING, f"share {share:g} of channels in multiples of {array}", hint="a share above 0, at most 1"
        )
    if share == 1:
        return tuple(inner)
    return tuple(min(n, max(round(n * share / array), 1) * array) for n in inner)


def pruned(trained: Trained, share: float, array: int) -> Trained:
    """A float backbone, pruned to `pruned_widths`, with the classifier that it had: for `fit`. Its history begins anew.

    array  rows of the systolic array: 12 on custom_perf
    """
    if not isinstance(trained.network, Backbone):
        raise CompileError(Code.PRUNING, "the network is quantized already", hint="prune the float network")
    network = prune(trained.network, pruned_widths(trained.description.inner, share, array))
    return replace(trained, network=network, description=network.description, history=())


def prune(backbone: Backbone, inner: Sequence[int]) -> Backbone:
    """A copy of a float backbone with `inner[b]` channels between the convolutions of block b. Fine-tune it afterwards.

    Those that go have the smallest norms: of the weights that make the channel, scaled as BatchNorm scales them, times
    that of the weights that read it. Raises CompileError for widths that are none.
    """
    before = backbone.description
    if len(inner) != len(before.inner) or any(not 1 <= n <= m for n, m in zip(inner, before.inner, strict=False)):
        raise CompileError(
            Code.PRUNING,
            f"{list(inner)} channels cannot be kept of {list(before.inner)}",
            hint="one number a block, 1 to what it has",
        )
    smaller = Backbone(replace(before, inner=tuple(inner)))
    for old, new, kept in zip(backbone.blocks, smaller.blocks, inner, strict=True):
        first = _best(_made(old.conv1, old.norm1) * _read(old.conv2), kept)
        second = _best(_made(old.conv2, old.norm2) * _read(old.conv3), kept)
        everything = slice(None)
        for name, outputs, inputs in (("1", first, everything), ("2", second, first), ("3", everything, second)):
            _copy(getattr(old, f"conv{name}"), getattr(new, f"conv{name}"), outputs, inputs)
            _copy_norm(getattr(old, f"norm{name}"), getattr(new, f"norm{name}"), outputs)
        new.shortcut.load_state_dict(old.shortcut.state_dict())
        new.shortcut_norm.load_state_dict(old.shortcut_norm.state_dict())
    smaller.train(backbone.training)
    return smaller


def _made(conv: nn.Module, norm: nn.Module) -> Tensor:
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight.detach().flatten(1).norm(dim=1) * scale.abs()


def _read(conv: nn.Module) -> Tensor:
    return conv.weight.detach().transpose(0, 1).flatten(1).norm(dim=1)


def _best(scores: Tensor, count: int) -> Tensor:
    """The indices of the `count` largest, in order; of equal ones the first."""
    return torch.sort(torch.sort(scores, descending=True, stable=True).indices[:count]).values


def _copy(old: nn.Module, new: nn.Module, outputs: Tensor | slice, inputs: Tensor | slice) -> None:
    with torch.no_grad():
        new.weight.copy_(old.weight[outputs][:, inputs])


def _copy_norm(old: nn.Module, new: nn.Module, channels: Tensor | slice) -> None:
    state = {n: t if t.ndim == 0 else t[channels] for n, t in old.state_dict().items()}
    new.load_state_dict(state)
