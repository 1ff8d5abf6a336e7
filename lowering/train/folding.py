"""BatchNorm into the convolution or linear layer before it, in float: what to do before the quantized fine-tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.train.network import copy_of, one_line, require_network

__all__ = ["fold_batchnorm"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)
_HINT = "fold it by hand, or leave it: a BatchNorm before a quantizer compiles exactly, only slower"


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of `model` whose BatchNorms are in the weights and biases of the layers before them, nn.Identity instead.

    In eval mode it computes what `model` does, up to float rounding. The copy's weights are off the grid of any weight
    quantizer: fine-tune afterwards. Raises one CompileError that names every BatchNorm which cannot be folded.
    """
    require_network(model)
    folded = copy_of(model)
    modules = dict(folded.named_modules())
    pairs, problems = _pairs(_trace(folded), modules)
    if problems:
        raise CompileError.of(problems)
    for pair in pairs:
        _fold(modules[pair.layer], modules[pair.norm])
        parent, _, name = pair.norm.rpartition(".")
        setattr(modules[parent], name, nn.Identity())
    return folded


@dataclass(frozen=True, slots=True)
class _Pair:
    """Names of a layer and of the BatchNorm that alone reads it."""

    layer: str
    norm: str


class _Tracer(fx.Tracer):  # type: ignore[misc]  # mypy sees torch as Any
    """Follows `forward` into modules that hold a layer of interest; all others are one step."""

    failed_in = ""  # the innermost module whose forward raised

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:  # noqa: ARG002  # torch's signature
        own = (*_FOLDABLE, _BatchNorm)
        return isinstance(module, own) or not any(isinstance(m, own) for m in module.modules())

    def call_module(
        self, module: nn.Module, forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        try:
            return super().call_module(module, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or self.path_of_module(module)
            raise


def _trace(model: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        if isinstance(model, (*_FOLDABLE, _BatchNorm)):
            return fx.Graph()  # nothing stands before or after it
        return tracer.trace(model)
    except Exception as e:  # whatever a forward does that cannot be followed symbolically
        where = tracer.failed_in or type(model).__name__
        raise CompileError(
            Code.FORWARD,
            f"forward of {quote(where)} cannot be followed: {one_line(e)}",
            hint="move what depends on the data, or on shapes, into a module of its own without convolutions",
        ) from e


def _pairs(graph: fx.Graph, modules: dict[str, nn.Module]) -> tuple[list[_Pair], list[Problem]]:
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs: list[_Pair] = []
    problems = [_unfoldable(name, "forward does not call it") for name in _uncalled(modules, calls)]
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _BatchNorm):
            continue
        before = node.args[0] if node.args else next(iter(node.kwargs.values()))
        while _is_identity(before, modules) and len(before.users) == 1:
            before = before.args[0]
        reason = _obstacle(before, node, modules, calls)
        if reason is None:
            pairs.append(_Pair(before.target, node.target))
        else:
            problems.append(_unfoldable(node.target, reason))
    return pairs, problems


def _unfoldable(name: str, reason: str) -> Problem:
    return Problem(Code.BATCHNORM_STAYS, f"BatchNorm {quote(name)} cannot be folded: {reason}", hint=_HINT)


def _uncalled(modules: dict[str, nn.Module], calls: Counter[str]) -> Iterator[str]:
    return (name for name, m in modules.items() if isinstance(m, _BatchNorm) and not calls[name])


def _is_identity(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules[node.target], nn.Identity)


def _obstacle(before: fx.Node, node: fx.Node, modules: dict[str, nn.Module], calls: Counter[str]) -> str | None:
    """Why the BatchNorm at `node` cannot go into what stands before it; None where it can."""
    norm = modules[node.target]
    if calls[node.target] > 1:
        return "it is used more than once"
    if norm.running_mean is None:
        return "it keeps no running statistics"
    if before.op != "call_module" or not isinstance(modules[before.target], _FOLDABLE):
        what = quote(str(before.target if before.op in ("call_module", "call_method") else before.name))
        return f"it follows {what}, which is no convolution or linear layer"
    layer = modules[before.target]
    if calls[before.target] > 1:
        return f"layer {quote(before.target)} is used more than once"
    if len(before.users) > 1:
        return f"the result of layer {quote(before.target)} is used elsewhere, too"
    if getattr(getattr(layer, "output_quant", None), "is_quant_enabled", False):
        return f"layer {quote(before.target)} quantizes its result before it"
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if channels != norm.num_features:
        return f"layer {quote(before.target)} has {channels} channels, it has {norm.num_features}"
    return None


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """In float64. New parameters, not the old ones changed: other layers may share those."""
    old = (layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    weight, bias, mean, variance, gamma, beta = (None if t is None else t.detach().double() for t in old)
    weight = _exchanged(layer, weight)
    weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, gamma, beta)  # of any rank
    new = _exchanged(layer, weight).contiguous(), bias
    layer.weight, layer.bias = (nn.Parameter(t.detach().to(layer.weight.dtype)) for t in new)


def _exchanged(layer: nn.Module, weight: Tensor) -> Tensor:
    """A transposed convolution's weight [C_in, C_out / groups, ...] as [C_out, C_in / groups, ...], or back."""
    if not isinstance(layer, _TRANSPOSED):
        return weight
    return weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
