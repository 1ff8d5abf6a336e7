"""What quantizing after training did to a float model: formats, ranges, clipping, signal to noise, accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.progress import Progress
from pefslc.evaluation.float_error import FloatError
from pefslc.evaluation.noise import Noise, measure_noise
from pefslc.files.arrays import Arrays
from pefslc.geometry.shapes import element_count
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import as_batches
from pefslc.ir.quantized import Conv, Linear, Quantize
from pefslc.ir.value import Op, Value
from pefslc.numeric.format import Quantization
from pefslc.passes.check_format import quantizer_roles
from pefslc.reports.float_distance import FLOAT_MODEL, FloatDistance
from pefslc.reports.layer_report import layer_name, short_format
from pefslc.reports.saturation import SeenTensor, SeenTensors, rounded

__all__ = ["Accuracy", "PostTrainingReport", "TensorNoise", "post_training_report"]

Floats = NDArray[np.float64]
LABELS = ("labels", "y")
_COMPARED = f"quantized model and {FLOAT_MODEL}"


@dataclass(frozen=True, slots=True)
class TensorNoise:
    """One tensor that is stored, or an output.

    name     the layer that ends with it
    format   of its codes; empty for an output that stays an accumulator
    weight   the format of the weights behind it; empty where there are none
    low, high  the range of the float model's values
    clipped  the share of them outside of the format
    noise    of the quantized model's values
    value    its name in the float model's graph
    """

    name: str
    format: str
    weight: str
    low: float
    high: float
    clipped: float
    noise: Noise
    value: str = ""

    def to_json(self) -> JsonObject:
        return {
            "tensor": self.name,
            "format": self.format,
            "weight": self.weight,
            "range": [rounded(self.low), rounded(self.high)],
            "clipped": rounded(self.clipped),
            "snr_db": rounded(self.noise.snr_db),
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

    distance  the errors of the outputs, and what saturates
    narrowed  the tensors and weights with fewer bits than were asked for: the target's accumulator forced them
    unread    an array with an integer for each row that is not called as labels are; "" without one
    """

    rows: int
    tensors: tuple[TensorNoise, ...]
    narrowed: tuple[str, ...]
    outputs: Mapping[str, Noise]
    accuracy: Accuracy | None
    distance: FloatDistance
    unread: str = ""

    def to_json(self) -> JsonObject:
        content: JsonObject = {
            "rows": self.rows,
            "tensors": [t.to_json() for t in self.tensors],
            "narrowed": list(self.narrowed),
            "outputs": {name: {"snr_db": rounded(noise.snr_db)} for name, noise in self.outputs.items()},
            "distance": self.distance.to_json(),
        }
        return content if self.accuracy is None else {**content, "accuracy": self.accuracy.to_json()}


def post_training_report(
    model: Graph,
    quantized: Graph,
    inputs: Arrays,
    asked_bits: int | Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> PostTrainingReport:
    """Run both on the inputs. Raises CompileError for arrays that do not suit the model.

    model       the float model
    quantized   what `QuantizeAfterTraining` made of it
    inputs      arrays by input name (or `x`); integers called `labels`, or `y`, one a row, are the true classes
    asked_bits  by --fmt auto; by the name of a quantizer's result, where they are not all alike
    """
    arrays, _ = as_batches(model, inputs)
    rows = max(len(a) for a in arrays.values())
    outputs = {a.value.name: b.value.name for a, b in zip(model.outputs, quantized.outputs, strict=True)}
    tensors = SeenTensors(model, quantized)
    pairs = {**{name: op.result.name for name, op in tensors.stored.items()}, **outputs}
    errors = {o.value.name: FloatError(o.name, _COMPARED) for o in model.outputs}
    top = _Top(model.outputs[0].value.name, _labels(model, inputs, rows))
    done = dict.fromkeys(errors, 0)

    def see(name: str, values: Floats, others: Floats) -> None:
        tensors.see(name, values)
        top.add(name, values, others)
        if name in errors:
            errors[name] = errors[name].plus(values, others, done[name])
            done[name] += len(values)

    noise = measure_noise(model, quantized, arrays, pairs, see, progress)
    weights = dict(_weight_formats(quantized))
    return PostTrainingReport(
        rows,
        tuple(_row(v, seen, weights.get(v.name, ""), noise[v.name]) for v, seen in tensors.in_order),
        () if asked_bits is None else tuple(_narrower(quantized, asked_bits)),
        {o.name: noise[o.value.name] for o in model.outputs},
        top.accuracy(),
        FloatDistance(rows, tuple(errors.values()), tensors.saturated()),
        "" if top.labels is not None else _like_labels(inputs, [*arrays, "x"], len(next(iter(arrays.values())))),
    )


def _row(value: Value, seen: SeenTensor, weight: str, noise: Noise) -> TensorNoise:
    fmt = "" if seen.quantization is None else short_format(seen.quantization)
    return TensorNoise(layer_name(value.origin), fmt, weight, seen.low, seen.high, seen.share, noise, value.name)


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


def _narrower(quantized: Graph, asked: int | Mapping[str, int]) -> Iterator[str]:
    for op, role in quantizer_roles(quantized):
        element = op.result.type.element
        bits = asked if isinstance(asked, int) else asked.get(op.result.name, 0)
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
