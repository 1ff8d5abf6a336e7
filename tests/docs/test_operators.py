"""docs/operators.md names every operator that the frontend reads, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from pefslc.frontend.operators import OPERATORS
from pefslc.frontend.variadic import VARIADIC

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"


def test_the_page_lists_the_operators_of_the_frontend() -> None:
    rows = re.findall(r"^\| ([A-Z][A-Za-z, ]+) \|", PAGE.read_text(), re.MULTILINE)
    listed = {name.strip() for row in rows for name in row.split(",")}
    assert listed == {name for _, name in OPERATORS} | {"Constant", "If", *VARIADIC}
