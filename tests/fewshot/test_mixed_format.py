"""How formats of backbones are spelled."""

from __future__ import annotations

import pytest

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.precision.budgets import BudgetKind, parse_budget
from pefslc.fewshot.sweep.cells import Cell, Method
from pefslc.fewshot.sweep.mixed_format import MixedFormat, backbone_format
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint


@pytest.mark.parametrize("bits", range(2, 8))
def test_a_mixed_format_is_two_budgets(bits: int) -> None:
    found = backbone_format(f"mixed:{bits}")
    assert isinstance(found, MixedFormat)
    assert str(found) == f"mixed:{bits}"
    weights, values = map(parse_budget, found.budgets)
    assert (weights.kind, weights.limit) == (BudgetKind.BITS, bits)
    assert (values.kind, values.limit) == (BudgetKind.ACTIVATIONS, bits)


def test_other_formats_are_the_compiler_s() -> None:
    assert backbone_format("Q2.3") == FixedPoint(2, 3)
    assert backbone_format("auto:5") == AutoFormat(5)


@pytest.mark.parametrize("text", ["mixed:", "mixed:1", "mixed:8", "mixed:3.5", "mixed:-3", "mixed:٣", "Mixed:3", "x"])
def test_what_is_no_format_is_refused(text: str) -> None:
    with pytest.raises(CompileError, match="is not a format"):
        backbone_format(text)


def test_a_cell_has_its_mean_bits() -> None:
    cell = Cell(method=Method.PTQ, fmt="mixed:3")
    assert cell.bits == 3
    assert cell.label == "PTQ mixed:3"
    assert Cell.from_json(cell.to_json()) == cell
