"""Operations that no output needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pefslc.ir.flow import needed_for
from pefslc.ir.graph import Graph, Level
from pefslc.passes.manager import Exactness

__all__ = ["RemoveDeadCode"]


@dataclass(frozen=True, slots=True)
class RemoveDeadCode:
    """Drop every operation whose result reaches no output."""

    level: Level
    name: str = "remove-dead-code"
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def run(self, graph: Graph) -> Graph:
        needed = needed_for(graph, (o.value.name for o in graph.outputs))
        return graph.with_ops(op for op in graph.ops if op.result.name in needed)
