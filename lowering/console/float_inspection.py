"""`pefslc inspect` of a float model: layers, shapes, ranges, and the format that would hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.text import Text

from pefslc.console.columns import Column, print_columns
from pefslc.numeric.format import FixedPoint
from pefslc.reports.float_layers import FloatLayer, format_that_holds_all

__all__ = ["float_inspection_json", "print_float_inspection"]

_WIDTHS = (8, 16)  # bits of the formats that are named


def print_float_inspection(layers: Sequence[FloatLayer], *, measured: bool) -> None:
    columns = [
        Column("layer", [Text(row.layer) for row in layers]),
        Column("op", [Text(row.op) for row in layers]),
        Column("shape", [Text("x".join(map(str, row.shape[1:]))) for row in layers]),
        Column("weights", [Text(_range(row.weight)) for row in layers], right=True),
    ]
    if measured:
        columns.append(Column("values", [Text(_range(row.values)) for row in layers], right=True))
    print_columns(columns, ("op", "shape"))
    print()
    print("a float model: --fmt Qm.n, or --fmt auto:B with --calibrate, quantizes it (`pefslc explain float-models`)")
    what = "weights, and all values that are rounded" if measured else "weights"
    unsigned = any(row.values is not None and row.signed is False for row in layers)
    for fmt in _formats(layers):
        plain = replace(fmt, signed=False).quantization
        also = f" ({plain.fixed_point} to {float(plain.value(plain.high)):g} behind a ReLU)" if unsigned else ""
        print(f"{fmt.describe()}{also} holds all {what}")
    if not measured:
        print("--calibrate DATA.npz shows the ranges of the values, too")


def float_inspection_json(model: str, layers: Sequence[FloatLayer]) -> dict[str, object]:
    formats = [str(fmt) for fmt in _formats(layers)]
    return {"model": model, "float": True, "layers": [row.to_json() for row in layers], "formats_that_hold": formats}


def _formats(layers: Sequence[FloatLayer]) -> list[FixedPoint]:
    return [fmt for bits in _WIDTHS if (fmt := format_that_holds_all(layers, bits)) is not None]


def _range(found: tuple[float, float] | None) -> str:
    return "" if found is None else f"{found[0]:.4g} to {found[1]:.4g}"
