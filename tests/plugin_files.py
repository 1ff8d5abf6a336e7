"""Files of passes, as users write them."""

from __future__ import annotations

from pathlib import Path

HEADER = """\
from dataclasses import dataclass, replace
from typing import ClassVar

from pefslc.ir.graph import Graph, Level
from pefslc.passes.manager import Exactness
"""

PASS = '''

@dataclass(frozen=True, slots=True)
class {name}:
    """{name}."""

    name: ClassVar[str] = "{name}"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.{level}

    def run(self, graph: Graph) -> Graph:
        {body}
'''

HALVE = """from pefslc.ir.value import IntArray
        return graph.with_ops(
            replace(op, weight=IntArray(op.weight.data // 2)) if hasattr(op, "weight") else op for op in graph.ops
        )"""


def write(folder: Path, *passes: tuple[str, str, str]) -> Path:
    path = folder / "mine.py"
    path.write_text(HEADER + "".join(PASS.format(name=n, level=v, body=b) for n, v, b in passes))
    return path
