"""A network as people have it: the file that an exporter writes, and what its outputs should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FieldModel"]


@dataclass(frozen=True)
class FieldModel:
    """A file that an exporter writes.

    exporter  what makes it, as the table names it: "onnxruntime quantize_static, QDQ"
    name      of the network and its settings; the stem of its files
    write     write(folder) writes folder/NAME.onnx, and folder/NAME.npz with inputs and expected values under the names
              that `--verify` reads. Two kinds of those, and both may be there:
              an array named like the output holds what the exporter's own runtime computes, in float32: where it
              differs, the table says how often, and whether rounding to float32 explains it;
              `y_ref64` (of a network with one output) holds the file's exact definition, evaluated in float64: every
              element must be equal. Or folder/NAME.exact.npz holds inputs, and the exact values by the outputs' names
    arguments what `pefslc.compile` gets beside the file: {"fmt": "Q3.4"} for a float network; strings and numbers
    """

    exporter: str
    name: str
    write: Callable[[Path], None]
    arguments: Mapping[str, str | int] = field(default_factory=dict)
