"""What quantizing after training did to a float model: formats, ranges, clipping, signal to noise, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.evaluation.noise import Noise, measure_noise
from pefslc.files.arrays import Arrays
from pefslc.geometry.shapes import element_count
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import as_batches
from pefslc.ir.quantized import Conv, Linear, Quantize
from pefslc.ir.value import Op, Value
from pefslc.numeric.format import Quantization
from pefslc.passes.calibrate import count_clipped
from pefslc.passes.check_format import quantizer_roles
from pefslc.reports.layer_report import layer_name, short_format

__all__ = ["Accuracy", "PostTrainingReport", "TensorNoise", "post_training_report"]

Floats = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
LABELS = ("labels", "y")


@dataclass(frozen=True, slots=True)
class TensorNoise:
    """One tensor that is stored, or an output.

    name     the layer that ends with it
    format   of its codes; empty for an output that stays an accumulator
    weight   the format of the weights behind it; empty where there are none
    low, high  the range of the float model's values
    clipped  the share of them outside of the format
    noise    of the quantized model's values
    """

    name: str
    format: str
    weight: str
    low: float
    high: float
    clipped: float
    noise: Noise

    def to_json(self) -> JsonObject:
        return {
            "tensor": self.name,
            "format": self.format,
            "weight": self.weight,
            "range": [_rounded(self.low), _rounded(self.high)],
            "clipped": _rounded(self.clipped),
            "snr_db": _rounded(self.noise.snr_db),
        }


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1: how many of `count` rows have their label as the largest value, in both models."""

    count: int
    float_right: int
    quantized_right: int
    same: int

    def to_json(self) -> JsonObject:
        return {
            "rows": self.count,
            "float": self.float_right,
            "quantized": self.quantized_right,
            "same_class": self.same,
        }


@dataclass(frozen=True, slots=True)
class PostTrainingReport:
    """The quantized model against the float model on `rows` inputs. `accuracy` is there when labels were.

    narrowed  the tensors and weights with fewer bits than were asked for: the target's accumulator forced them
    unread    an array with an integer for each row that is not called as labels are; "" without one
    """

    rows: int
    tensors: tuple[TensorNoise, ...]
    narrowed: tuple[str, ...]
    outputs: Mapping[str, Noise]
    accuracy: Accuracy | None
    unread: str = ""

    def to_json(self) -> JsonObject:
        content: JsonObject = {
            "rows": self.rows,
            "tensors": [t.to_json() for t in self.tensors],
            "narrowed": list(self.narrowed),
            "outputs": {name: {"snr_db": _rounded(noise.snr_db)} for name, noise in self.outputs.items()},
        }
        return content if self.accuracy is None else {**content, "accuracy": self.accuracy.to_json()}


def post_training_report(
    model: Graph, quantized: Graph, inputs: Arrays, asked_bits: int | None = None, progress: Progress | None = None
) -> PostTrainingReport:
    """Run both on the inputs. Raises CompileError for arrays that do not suit the model.

    model       the float model
    quantized   what `QuantizeAfterTraining` made of it
    inputs      arrays by input name (or `x`); integers called `labels`, or `y`, one a row, are the true classes
    asked_bits  by --fmt auto
    """
    arrays, _ = as_batches(model, inputs)
    stored = {op.input.name: op for op in quantized.of_type(Quantize) if op.channel_axis == 1}
    outputs = {a.value.name: b.value.name for a, b in zip(model.outputs, quantized.outputs, strict=True)}
    pairs = {**{name: op.result.name for name, op in stored.items()}, **outputs}
    seen = {name: _Seen(_quantization(stored.get(name))) for name in (*stored, *outputs)}
    top = _Top(model.outputs[0].value.name, _labels(model, inputs, max(len(a) for a in arrays.values())))

    def see(name: str, values: Floats, others: Floats) -> None:
        seen[name].add(values)
        top.add(name, values, others)

    noise = measure_noise(model, quantized, arrays, pairs, see, progress)
    weights = dict(_weight_formats(quantized))
    in_order = (*(i.value for i in model.inputs), *(op.result for op in model.ops))
    rows = [seen[v.name].row(v, weights.get(v.name, ""), noise[v.name]) for v in in_order if v.name in seen]
    return PostTrainingReport(
        max(len(a) for a in arrays.values()),
        tuple(rows),
        () if asked_bits is None else tuple(_narrower(quantized, asked_bits)),
        {o.name: noise[o.value.name] for o in model.outputs},
        top.accuracy(),
        "" if top.labels is not None else _like_labels(inputs, [*arrays, "x"], len(next(iter(arrays.values())))),
    )


def _quantization(op: Quantize | None) -> Quantization | None:
    element = None if op is None else op.result.type.element
    return element if isinstance(element, Quantization) else None


@dataclass(slots=True)
class _Seen:
    quantization: Quantization | None
    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    clipped: int = 0

    def add(self, values: Floats) -> None:
        # Adding 0 makes a negative zero positive.
        self.low, self.high = min(self.low, float(values.min()) + 0.0), max(self.high, float(values.max()) + 0.0)
        self.count += values.size
        if self.quantization is not None:
            self.clipped += count_clipped(self.quantization, values)

    def row(self, value: Value, weight: str, noise: Noise) -> TensorNoise:
        fmt = "" if self.quantization is None else short_format(self.quantization)
        share = self.clipped / max(self.count, 1)
        return TensorNoise(layer_name(value.origin), fmt, weight, self.low, self.high, share, noise)


@dataclass(slots=True)
class _Top:
    """Counts of right classes at one output."""

    output: str
    labels: NDArray[np.int64] | None
    count: int = 0
    right: list[int] = field(default_factory=lambda: [0, 0, 0])

    def add(self, name: str, values: Floats, others: Floats) -> None:
        if name != self.output or self.labels is None:
            return
        ours, theirs = (np.argmax(a.reshape(len(a), -1), axis=1) for a in (values, others))
        true = self.labels[self.count : self.count + len(ours)]
        for i, agreed in enumerate((ours == true, theirs == true, ours == theirs)):
            self.right[i] += int(np.count_nonzero(agreed))
        self.count += len(ours)

    def accuracy(self) -> Accuracy | None:
        return None if self.labels is None else Accuracy(self.count, *self.right)


def _labels(model: Graph, inputs: Arrays, rows: int) -> NDArray[np.int64] | None:
    classes = element_count(model.outputs[0].value.type.shape[1:])
    for name in LABELS:
        array = inputs.get(name)
        if array is None or (name != LABELS[0] and array.dtype.kind not in "iu"):
            continue  # `y` may be anything: expected outputs, for example
        if array.shape not in ((rows,), (rows, 1)) or array.dtype.kind not in "iu":
            raise CompileError(
                Code.INPUT_ARRAY,
                f"array {quote(name)} holds {array.dtype} of shape {list(array.shape)}, not a class for each of {rows} "
                "inputs",
                hint="one integer a row, or leave it out",
            )
        labels = array.reshape(-1).astype(np.int64)
        wrong = labels[(labels < 0) | (labels >= classes)]
        if wrong.size:
            raise CompileError(
                Code.INPUT_ARRAY,
                f"array {quote(name)} names class {wrong[0]}, and output {quote(model.outputs[0].name)} has {classes}",
                hint="classes count from 0",
            )
        return labels
    return None


def _like_labels(inputs: Arrays, known: Sequence[str], rows: int) -> str:
    """The first other array that looks like labels."""
    found = (
        n for n, a in inputs.items() if n not in known and a.dtype.kind in "iu" and a.shape in ((rows,), (rows, 1))
    )
    return next(found, "")


def _narrower(quantized: Graph, bits: int) -> Iterator[str]:
    for op, role in quantizer_roles(quantized):
        element = op.result.type.element
        if isinstance(element, Quantization) and element.bits < bits:
            yield f"{layer_name(op.result.origin)}{' weights' if role == 'weight' else ''}"


def _weight_formats(quantized: Graph) -> Iterator[tuple[str, str]]:
    """Stored tensor or output -> the formats of the weights of the layers between it and the tensors stored before."""
    producers = quantized.producers()

    def behind(value: Value) -> Iterator[str]:
        op = producers.get(value.name)
        match op:
            case Conv() | Linear():
                element = op.weight.type.element
                if isinstance(element, Quantization):
                    yield short_format(element)
            case None | Quantize():
                pass
            case Op():
                for operand in op.operands:
                    yield from behind(operand)

    ends = [op.input for op in quantized.of_type(Quantize) if op.channel_axis == 1]
    for value in (*ends, *(o.value for o in quantized.outputs)):
        yield value.name, ", ".join(dict.fromkeys(behind(value)))


def _rounded(number: float) -> float | None:
    """Six significant digits, the same wherever sums of floats are ordered differently; JSON has no infinity."""
    return float(f"{number:.6g}") if isfinite(number) else None
