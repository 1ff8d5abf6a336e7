"""`<name>_io.py`: what the host does around a run, in numpy alone, so that a board needs nothing of pefslc."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import jinja2

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.ir.graph import GraphInput, GraphOutput
from pefslc.numeric.rounding import RoundingMode
from pefslc.targets.tensil.groups.layout import Layout, Offsets
from pefslc.targets.tensil.machine.architecture import Architecture, DataType

__all__ = ["TensorRecord", "codes_in_words", "host_io_module", "host_io_source"]


@dataclass
class TensorRecord:
    """An input or output as the host sees it: layout [channels, height, width], the offsets (dy, dx) of the pixels that
    share a vector (see `packing`), and the exponent of its codes: word = code * 2^exponent / finer.
    """

    name: str
    layout: Layout
    offsets: Offsets
    exponent: int
    architecture: Architecture
    finer: int = 1
    fields: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """For the sidecar."""
        layout = [self.layout.channels, self.layout.height, self.layout.width]
        flat = [step for offset in self.offsets for step in offset]
        record: dict[str, Json] = {
            "name": self.name, "layout": layout, "lane_offsets": flat, "exponent": self.exponent,
        }  # fmt: skip
        return {**record, "finer": self.finer} if self.finer > 1 else record

    def complete(self, end: GraphInput | GraphOutput) -> None:
        """Add what the emitted module needs: the quantizer of an input, the map of an output."""
        self.fields = {**self.to_json(), "shape": list(end.value.type.shape)}
        if isinstance(end, GraphInput):
            assert end.quantizer is not None
            q = end.quantizer.quantization
            # The emitted module decides exactly by the float64 of a step: every scale of a file is one.
            assert all(Fraction(float(s)) == s for s in q.scale.steps)
            low, high = codes_in_words(self.exponent, self.architecture.data_type)
            self.fields |= {
                "scale": [_pair(s) for s in q.scale.steps],
                "zero_point": q.zero_point,
                "low": max(q.low, low),
                "high": min(q.high, high),
                "rounding": end.quantizer.rounding.value,
                "adds_zero_point_last": end.quantizer.adds_zero_point_last,
            }
        else:
            assert end.map is not None
            self.fields |= {"scale": [_pair(s) for s in end.map.scale], "offset": [_pair(o) for o in end.map.offset]}


def codes_in_words(exponent: int, data_type: DataType) -> tuple[int, int]:
    """The lowest and the highest code whose words, code * 2^exponent, the data type holds: inputs saturate there."""
    return data_type.min_code >> exponent, data_type.max_code >> exponent


def _pair(value: Fraction) -> list[int]:
    return [value.numerator, value.denominator]


def host_io_module(name: str) -> str:
    """The module's name for a model: an identifier, so that it can be imported."""
    module = "".join(c if c.isascii() and c.isalnum() else "_" for c in name) + "_io"
    return module if module.isidentifier() else f"model_{module}"


def host_io_source(
    name: str, architecture: Architecture, inputs: list[TensorRecord], outputs: list[TensorRecord]
) -> str:
    """The text of the module."""
    return (
        _environment()
        .get_template("host_io.py.j2")
        .render(
            name=name,
            module=host_io_module(name),
            array_size=architecture.array_size,
            binary_point=architecture.data_type.binary_point,
            inputs=[r.fields for r in inputs],
            outputs=[r.fields for r in outputs],
            modes=[mode.value for mode in RoundingMode],
        )
    )


@cache
def _environment() -> jinja2.Environment:
    """Kept, with the templates that it compiled: they take longer than a small network."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
