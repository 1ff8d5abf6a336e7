"""`<name>_io.py`: what the host does around a run, in numpy alone, so that a board needs nothing of pefslc."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.ir.graph import GraphInput, GraphOutput
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage
from pefslc.targets.self_test import DrawnInput
from pefslc.targets.templates import templates_in
from pefslc.targets.tensil.groups.host_movement import HostMove
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.words.word_program import WordTensor

__all__ = ["HostTensor", "board_script_name", "codes_in_words", "host_io_module", "host_io_source"]


@dataclass(frozen=True, slots=True)
class HostTensor:
    """An input or output as the host sees it, how it lies in the machine's words, and what the host moves between.

    words  of an output that is the sum of several words: for each, one behind the other as the driver returns them,
           (its exponent, how many bits up it stands); else none
    """

    end: GraphInput | GraphOutput
    tensor: WordTensor
    data_type: DataType
    moves: tuple[HostMove, ...] = ()
    words: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> JsonObject:
        """For the sidecar: the layout [channels, height, width], whether a pixel's channel blocks lie
        one behind the other, or pixels do without a gap, the offsets (dy, dx) of pixels that share a vector, and
        of how many rows and columns there is one vector,
        the placement of codes: word = code * 2^exponent / finer, or the words of a code, [exponent, up] for each: the
        code is the sum of word * 2^(up - exponent); and the reshapes and transposes, with the batch, by
        which an input gets the layout, or the layout becomes an output.
        """
        offsets, by_pixel = self.tensor.stored.packing, self.tensor.stored.by_pixel
        layout = by_pixel or self.tensor.stored.image
        record: dict[str, Json] = {
            "name": self.end.name,
            "layout": [layout.channels, layout.height, layout.width],
            "lane_offsets": [step for offset in offsets for step in offset],
            "exponent": self.tensor.exponent,
        }
        if self.tensor.stored.steps != (1, 1):
            record["lane_steps"] = list(self.tensor.stored.steps)
        if self.tensor.finer > 1:
            record["finer"] = self.tensor.finer
        if by_pixel is not None:
            record["dense" if self.tensor.stored.dense else "by_pixel"] = True
        if self.words:
            record["words"] = [list(word) for word in self.words]
        if self.moves:
            record["moves"] = [[move.kind, list(move.axes)] for move in self.moves]
        return record

    @property
    def drawn_input(self) -> DrawnInput:
        """An input, as its self-test draws codes for it."""
        assert isinstance(self.end, GraphInput)
        assert self.end.quantizer is not None
        fields, q = self.module_fields(), self.end.quantizer.quantization
        reach = float(max(abs(q.value(code)) for code in (q.low, q.high))) or 1.0
        return DrawnInput(
            self.end.name, self.end.value.type.shape, int(str(fields["low"])), int(str(fields["high"])), reach
        )

    def module_fields(self) -> JsonObject:
        """What the emitted module needs, too: the quantizer of an input, the map of an output."""
        fields: dict[str, Json] = {**self.to_json(), "shape": list(self.end.value.type.shape)}
        if isinstance(self.end, GraphOutput):
            assert self.end.map is not None
            scale, offset = self.end.map.scale, self.end.map.offset
            if (function := self.end.function) is not None:
                fields["function"] = [function.kind.value, function.axis, function.keepdims, function.last]
                if function.quantizer is not None:
                    fields["result"] = {**_quantizer(function.quantizer), "as_codes": function.as_codes}
            return {**fields, "scale": [_pair(s) for s in scale], "offset": [_pair(o) for o in offset]}
        assert self.end.quantizer is not None
        q, stages = self.end.quantizer.quantization, self.end.stages
        steps = q.scale
        if stages or not all(Fraction(float(s)) == s for s in steps.steps):
            # The emitted module decides exactly by the float64 of a step: what is none is a stage, before a step of 1.
            stages, steps = (*stages, Affine.product(tuple(1 / s for s in steps.steps))), Scale.power_of_two(0)
            fields |= {"stages": [_stage(s) for s in stages], "channel_axis": self.end.channel_axis}
        if self.end.integers:
            limits = np.iinfo(self.end.integers)
            fields |= {"integers": [int(limits.min), int(limits.max)]}
        low, high = codes_in_words(self.tensor.exponent, self.data_type)
        return {
            **fields,
            **_quantizer(self.end.quantizer),
            "scale": [_pair(s) for s in steps.steps],
            "low": max(q.low, low),
            "high": min(q.high, high),
        }


def codes_in_words(exponent: int, data_type: DataType) -> tuple[int, int]:
    """The lowest and the highest code whose words, code * 2^exponent, the data type holds: inputs saturate there."""
    return data_type.min_code >> exponent, data_type.max_code >> exponent


def _quantizer(quantizer: Quantizer) -> JsonObject:
    """As `quantize` of the emitted module reads it."""
    q = quantizer.quantization
    return {
        "scale": [_pair(s) for s in q.scale.steps],
        "zero_point": q.zero_point,
        "low": q.low,
        "high": q.high,
        "rounding": quantizer.rounding.value,
        "adds_zero_point_last": quantizer.adds_zero_point_last,
    }


def _stage(stage: Stage) -> Json:
    """[what it is, its parameters: each a list of pairs, or None for no limit]."""
    match stage:
        case Affine():
            parts = (stage.factor, stage.addend, stage.radicand, stage.offset)
            return ["affine", [[_pair(v) for v in part] for part in parts]]
        case ClipStage():
            return ["clip", [None if limit is None else [_pair(limit)] for limit in (stage.low, stage.high)]]
        case LeakyReluStage():
            return ["leaky_relu", [[_pair(alpha) for alpha in stage.alphas]]]
    raise AssertionError("no host applies it")


def _pair(value: Fraction) -> Json:
    return [value.numerator, value.denominator]


def host_io_module(name: str) -> str:
    """The module's name for a model: an identifier, so that it can be imported."""
    module = "".join(c if c.isascii() and c.isalnum() else "_" for c in name) + "_io"
    return module if module.isidentifier() else f"model_{module}"


def board_script_name(name: str) -> str:
    """The script for the board that lies beside the module: the same name, but for the end."""
    return f"{host_io_module(name).removesuffix('_io')}_run.py"


def _example(names: list[str]) -> str:
    """Arrays by the names of the inputs, as Python."""
    arrays = ["x"] if len(names) == 1 else [f"x{i}" for i, _ in enumerate(names)]
    return "{" + ", ".join(f"{_in_docstring(n)}: {a}" for n, a in zip(names, arrays, strict=True)) + "}"


def _shapes(tensors: list[HostTensor]) -> str:
    return " and ".join(f"{_in_docstring(t.end.name)} {list(t.end.value.type.shape)}" for t in tensors)


def _in_docstring(name: str) -> str:
    """A name in quotes: what a docstring could not hold, or would read as something else, is escaped."""
    return json.dumps(name)


def host_io_source(name: str, architecture: Architecture, inputs: list[HostTensor], outputs: list[HostTensor]) -> str:
    """The text of the module."""
    fields = [tensor.module_fields() for tensor in inputs]
    return (
        templates_in(Path(__file__).parent)
        .get_template("host_io.py.j2")
        .render(
            name=name,
            module=host_io_module(name),
            run=board_script_name(name),
            example=_example([tensor.end.name for tensor in inputs]),
            taken=_shapes(inputs),
            given=_shapes(outputs),
            array_size=architecture.array_size,
            batch=inputs[0].end.value.type.shape[0] if inputs else 1,
            binary_point=architecture.data_type.binary_point,
            inputs=fields,
            staged=any("stages" in record for record in fields),
            outputs=[tensor.module_fields() for tensor in outputs],
            quantized=any("result" in tensor.module_fields() for tensor in outputs),
            functions=any(tensor.end.function is not None for tensor in outputs if isinstance(tensor.end, GraphOutput)),
            integers=any("integers" in record for record in fields),
            joined=any(tensor.words for tensor in outputs),
            by_pixel=any(tensor.tensor.stored.by_pixel for tensor in (*inputs, *outputs)),
            dense=any(tensor.tensor.stored.dense for tensor in inputs),
            moved=any(tensor.moves for tensor in (*inputs, *outputs)),
            modes=[mode.value for mode in RoundingMode],
        )
    )
