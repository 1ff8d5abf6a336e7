"""A file against the torch network that it was exported from, both evaluated in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.ir.graph import Graph, GraphInput
from pefslc.ir.quantized import Add, AveragePool, Constant, Conv, Linear, Quantize, QuantizedConstant, Relu
from pefslc.ir.reference import evaluate_values
from pefslc.ir.structural import Concat, MaxPool, Reshape, Slice, Transpose, Upsample
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.train.network import run, tensors_of
from pefslc.train.pinning import activation_quantizers

__all__ = ["compare_with_file"]

Floats = NDArray[np.float64]

_ROWS = 8  # evaluated at once: bounds the memory of intermediate tensors
_RANDOM_ROWS = 8
_SEED = 0
_EXACT = (
    Add,
    AveragePool,
    Concat,
    Constant,
    Conv,
    Linear,
    MaxPool,
    Quantize,
    QuantizedConstant,
    Relu,
    Reshape,
    Slice,
    Upsample,
    Transpose,
)
# Relative to the largest value, where not all is dyadic: a slope or limit of 0.1, say, is a float32 in the file.
_NOISE = 1e-6


def compare_with_file(model: nn.Module, inputs: Sequence[Tensor], graph: Graph) -> None:
    """Raise CompileError where the file's graph and `model`, in float64, differ: on `inputs`, or on random rows."""
    exact = _is_exact(graph)
    parts = list(zip(*(t.split(_ROWS) for t in inputs), strict=True))
    for batch in (*parts, *_random_batches(graph, parts[0])):
        wide = [t.double() for t in batch]
        got = evaluate_values(graph, {i.name: t.numpy() for i, t in zip(graph.inputs, wide, strict=True)})
        for output, tensor in zip(graph.outputs, run(model, wide), strict=True):
            difference = _difference(got[output.value.name], tensor.numpy(), exact)
            if difference:
                raise CompileError(
                    Code.EXPORT_DIFFERS,
                    f"the exported file does not compute what the network does: output {quote(output.name)}, "
                    f"{difference}",
                    at=_first_differing_layer(model, wide, graph, exact),
                    hint="forward is traced once: it must not branch on its data, on shapes or on self.training",
                )


def _difference(got: Floats, expected: Floats, exact: bool) -> str:
    """Where two arrays differ; "" where they do not."""
    if got.shape != expected.shape:
        return f"of shape {list(got.shape)} instead of {list(expected.shape)}"
    noise = 0.0 if exact else _NOISE * float(np.abs(expected).max(initial=0.0))
    wrong = np.argwhere(~(np.abs(got - expected) <= noise))
    if not len(wrong):
        return ""
    index = tuple(int(i) for i in wrong[0])
    return f"{len(wrong)} of {got.size} numbers, first {list(index)}: {got[index]:.9g} instead of {expected[index]:.9g}"


def _random_batches(graph: Graph, inputs: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Random rows of the grid of each input's quantizer, of the range of the example where there is none."""
    generator = np.random.default_rng(_SEED)
    for _ in range(-(-_RANDOM_ROWS // len(inputs[0]))):
        pairs = zip(graph.inputs, inputs, strict=True)
        yield [torch.from_numpy(_random_like(graph, i, t.numpy(), generator)) for i, t in pairs]


def _random_like(
    graph: Graph, graph_input: GraphInput, example: NDArray[np.float32], generator: np.random.Generator
) -> Floats:
    for reader in graph.consumers().get(graph_input.value.name, []):
        q = reader.result.type.element
        if isinstance(reader, Quantize) and isinstance(q, Quantization) and not q.scale.per_channel:
            codes = generator.integers(q.low, q.high, example.shape, endpoint=True)
            return np.multiply(codes - q.zero_point, float(q.scale.step), dtype=np.float64)
    return generator.uniform(example.min(), example.max(), example.shape)


def _is_exact(graph: Graph) -> bool:
    """Whether float64 rounds nothing in this graph: all of it lies on grids of powers of two, no wider than 53 bits.

    Sums of raw constants, and what else is not known to, may be rounded.
    """
    raw = {op.result.name for op in graph.ops if isinstance(op, Constant)}
    return all(
        isinstance(op, _EXACT)
        and (isinstance(op, Quantize) or not any(v.name in raw for v in op.operands))
        and not (isinstance(op, AveragePool) and (op.counts is not None or op.window.taps & (op.window.taps - 1)))
        and not (
            isinstance(q := op.result.type.element, Quantization) and None in map(power_of_two_exponent, q.scale.steps)
        )
        for op in graph.ops
    )


def _first_differing_layer(model: nn.Module, inputs: Sequence[Tensor], graph: Graph, exact: bool) -> str | None:
    """The first quantizer of the file whose values are not those of its layer in torch; None where all are equal."""
    layers = _activations(model, inputs)
    values = evaluate_values(graph, {i.name: t.numpy() for i, t in zip(graph.inputs, inputs, strict=True)})
    for op in graph.of_type(Quantize):
        name = _layer_name(op.result.origin.node)
        if not layers.get(name):
            continue
        difference = _difference(values[op.result.name], layers[name].pop(0), exact)
        if difference:
            return f"layer {quote(name)}, {difference}"
    return None


def _activations(model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, list[Floats]]:
    """The values that each layer's activation quantizer made, call by call."""
    found: dict[str, list[Floats]] = {}
    handles = []
    for name, proxy in activation_quantizers(model):
        results = found.setdefault(name, [])

        def hook(_: nn.Module, __: object, output: object, results: list[Floats] = results) -> None:
            results.extend(t.numpy() for t in tensors_of(output))

        handles.append(proxy.register_forward_hook(hook))
    run(model, inputs)
    for handle in handles:
        handle.remove()
    return found


def _layer_name(node: str) -> str:
    """'/blocks/blocks.0/act/act_quant/export_handler/Quant' -> 'blocks.0.act': torch repeats a container's name."""
    name = ""
    for part in node.strip("/").split("/")[:-3]:
        last = name.rpartition(".")[2]
        if name and part.startswith(f"{name}."):
            name = part
        elif last and part.startswith(f"{last}."):
            name = name[: len(name) - len(last)] + part
        else:
            name = f"{name}.{part}" if name else part
    return name
