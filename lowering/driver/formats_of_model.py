"""The formats that a model has, by name: what --formats reads back."""

from __future__ import annotations

from pefslc.diagnostics.errors import quote
from pefslc.driver.format_file import FormatTable, Rounding
from pefslc.driver.format_slots import Role, Slot, format_slots
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Conv, Linear, Quantize
from pefslc.numeric.format import Quantization
from pefslc.passes.check_format import describe, is_float
from pefslc.passes.quantize_after_training import rounded_weight_name

__all__ = ["formats_of"]


def formats_of(model: Graph, quantized: Graph) -> tuple[FormatTable, tuple[str, ...]]:
    """The tables that give each place the format that it has, and those of which Qm.n cannot tell, in words.

    model      as imported; of a quantized model the same as `quantized`
    quantized  with what --fmt filled in
    """
    tables: FormatTable = {"model": {}, "tensors": {}, "layers": {}}
    others = []
    slots = format_slots(model)
    formats = {slot: _format(slot, quantized) for slot in slots}
    made = quantized.producers()
    balanced = {s.key for s in slots if s.role is Role.WEIGHTS and rounded_weight_name(s.key) in made}
    if is_float(model) and any(s.role is Role.WEIGHTS for s in slots):
        tables["model"]["rounding"] = (Rounding.BALANCED if balanced else Rounding.NEAREST).value
    for slot, quantization in formats.items():
        if quantization is None:
            continue
        fixed = quantization.fixed_point
        name = slot.tensors[0] if slot.tensors else slot.key
        if fixed is None:
            others.append(f"{quote(name)}: {describe(quantization)}; no Qm.n")
            continue
        node = slot.origins[0].node if slot.role is Role.WEIGHTS else ""
        if node and node not in tables["layers"]:
            entry: dict[str, object] = {"weights": str(fixed)}
            if balanced and slot.key not in balanced:
                entry["rounding"] = Rounding.NEAREST.value
            tables["layers"][node] = entry
        else:
            tables["tensors"][name] = str(fixed)
    return {name: table for name, table in tables.items() if table}, tuple(others)


def _format(slot: Slot, quantized: Graph) -> Quantization | None:
    """What a slot has in the quantized graph."""
    if slot.has is not None:
        return slot.has
    for op in quantized.ops:
        element = None
        if slot.role is Role.WEIGHTS and isinstance(op, Conv | Linear) and op.result.name == slot.key:
            element = op.weight.type.element
        elif slot.role is Role.ACTIVATIONS and isinstance(op, Quantize) and op.input.name == slot.key:
            element = op.quantization
        if isinstance(element, Quantization):
            return element
    return None
