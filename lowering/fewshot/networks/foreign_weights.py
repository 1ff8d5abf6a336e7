"""Weights of EASY, brain-train and PEFSL: what their files call each layer, and what it is in ours.

| of block b            | ours                          | brain-train, PEFSL          | EASY                        |
|-----------------------|-------------------------------|-----------------------------|-----------------------------|
| convolution k         | blocks.b.conv{k}              | block{b+1}.conv{k}.conv     | layers.b.conv{k}            |
| its BatchNorm         | blocks.b.norm{k}              | block{b+1}.conv{k}.bn       | layers.b.bn{k}              |
| shortcut, BatchNorm   | blocks.b.shortcut[_norm]      | block{b+1}.sc.conv, .sc.bn  | layers.b.shortcut.0, .1     |

The files hold parameters alone. Strides, activation and normalization are not in them: the user says what they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.fewshot.data.torch_files import plain_torch
from pefslc.fewshot.networks.backbones import Activation, Backbone, Description
from pefslc.files.reading import read_file

__all__ = ["load_weights"]

_OPTIONAL = "num_batches_tracked"  # BatchNorm counts with it, and computes nothing from it
_CLASSIFIER = re.compile(r"(linear|linear_rot|fc|fcRotations)\.")
_MOST_LISTED = 12

_Ours = Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Whose files have names like `name`, without the last part; and ours for it."""

    title: str
    name: re.Pattern[str]
    ours: _Ours


def load_weights(path: Path, description: Description | None = None) -> Backbone:
    """The backbone, in eval mode, with the weights in the file of torch at `path`.

    description  what the file cannot tell: size, strides, activation, normalization. By default 32 pixels, strided,
                 LeakyReLU. Its maps are compared with the file's; those of the default are the file's.

    Nothing in the file is executed; classifiers in it are left out. Raises CompileError, which names each layer that is
    missing, that has another shape, or that our backbones do not have.
    """
    weights, title = _ours(path, _state_dict(path))
    if description is None:
        description = _described(Description(activation=Activation.LEAKY_RELU), weights)
    backbone = Backbone(description)
    wanted = backbone.state_dict()
    problems = list(_differences(wanted, weights))
    if problems:
        what = f"{description.name} of {', '.join(map(str, description.maps))} maps"
        hint = f"the file was written by {title}; the backbone is a {what}: give the one that was trained"
        raise CompileError.of([*problems[:-1], replace(problems[-1], hint=hint)])
    backbone.load_state_dict({name: weights.get(name, tensor) for name, tensor in wanted.items()})
    backbone.eval()
    return backbone


def _state_dict(path: Path) -> Mapping[str, Tensor]:
    hint = "give a file that torch.save(model.state_dict(), path) wrote"
    content = plain_torch(read_file(path))
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    named = isinstance(content, Mapping) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    )
    if not named or not content:
        raise CompileError(Code.WEIGHTS_FILE, f"{quote(path)} does not hold tensors by the names of layers", hint=hint)
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}  # torch's DataParallel adds it


def _ours(path: Path, given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The weights by our names, and who wrote them. What nobody's name is keeps its own, to be named in a message."""
    for writer in _writers():
        weights, found = {}, False
        for name, tensor in given.items():
            layer, _, part = name.rpartition(".")
            match = writer.name.fullmatch(layer)
            if match is not None:
                found = True
                weights[f"{writer.ours(match)}.{part}"] = tensor
            elif not _CLASSIFIER.match(name):
                weights[name] = tensor
        if found:
            return weights, writer.title
    examples = ", ".join(quote(name) for name in list(given)[:3])
    raise CompileError(
        Code.WEIGHTS_FILE,
        f"{quote(path)} holds no weights of a ResNet-9 or ResNet-12: its tensors are called {examples}...",
        hint="weights of EASY, brain-train, PEFSL and pefslc are read",
    )


def _writers() -> tuple[_Writer, ...]:
    def block(match: re.Match[str]) -> int:
        return int(match["block"]) - 1

    return (
        _Writer("pefslc", re.compile(r"blocks\.\d+\.(conv[123]|norm[123]|shortcut|shortcut_norm)"), lambda m: m[0]),
        _Writer(
            "brain-train or PEFSL",
            re.compile(r"block(?P<block>\d+)\.(?P<layer>conv[123]|sc)\.(?P<kind>conv|bn)"),
            lambda m: f"blocks.{block(m)}.{_layer(m['layer'], norm=m['kind'] == 'bn')}",
        ),
        _Writer(
            "EASY",
            re.compile(r"layers\.(?P<block>\d+)\.(?P<layer>conv[123]|bn[123]|shortcut\.[01])"),
            lambda m: f"blocks.{m['block']}.{_of_easy(m['layer'])}",
        ),
    )


def _layer(name: str, *, norm: bool) -> str:
    """Our name of the convolution "conv1" or "sc", or of its BatchNorm."""
    if name == "sc":
        return "shortcut_norm" if norm else "shortcut"
    return name.replace("conv", "norm") if norm else name


def _of_easy(name: str) -> str:
    if name.startswith("shortcut"):
        return _layer("sc", norm=name.endswith("1"))
    return _layer(name.replace("bn", "conv"), norm=name.startswith("bn"))


def _described(default: Description, weights: Mapping[str, Tensor]) -> Description:
    """The default with the maps of the file, as far as they make a backbone."""
    maps: list[int] = []
    inner: list[int] = []
    while f"blocks.{len(maps)}.conv3.weight" in weights and len(maps) < 4:
        convolution = weights[f"blocks.{len(maps)}.conv3.weight"]
        if convolution.ndim != 4:
            break
        maps.append(convolution.shape[0])
        inner.append(convolution.shape[1])
    return replace(default, maps=tuple(maps), inner=tuple(inner)) if len(maps) in (3, 4) else default


def _differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Layer by layer: missing, of another shape, or too many."""
    problems = [*_missing(wanted, given), *_unknown(wanted, given)]
    for message, name in problems[:_MOST_LISTED]:
        yield Problem(Code.WEIGHTS_FILE, message, at=name)
    if len(problems) > _MOST_LISTED:
        yield Problem(Code.WEIGHTS_FILE, f"{len(problems) - _MOST_LISTED} other tensors do not fit either")


def _missing(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for name, tensor in wanted.items():
        found = given.get(name)
        if found is None and not name.endswith(_OPTIONAL):
            yield f"the file has nothing for {quote(name)}, {list(tensor.shape)}", name
        elif found is not None and found.shape != tensor.shape:
            yield f"{quote(name)} is {list(found.shape)} in the file and {list(tensor.shape)} in the backbone", name
        elif found is not None and found.is_floating_point() and not bool(torch.isfinite(found).all()):
            yield f"{quote(name)} holds NaN or infinity", name


def _unknown(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for name, tensor in given.items():
        if name not in wanted:
            yield f"the backbone has no {quote(name)}, {list(tensor.shape)}", name
