"""Operations that no output needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pefslc.ir.graph import Graph, Level
from pefslc.ir.value import Op
from pefslc.passes.manager import Exactness

__all__ = ["RemoveDeadCode"]


@dataclass(frozen=True, slots=True)
class RemoveDeadCode:
    """Drop every operation whose result reaches no output."""

    level: Level
    name: str = "remove-dead-code"
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def run(self, graph: Graph) -> Graph:
        needed = {o.value.name for o in graph.outputs}
        kept: list[Op] = []
        for op in reversed(graph.ops):
            if op.result.name in needed:
                kept.append(op)
                needed.update(v.name for v in op.operands)
        return graph.with_ops(reversed(kept))
