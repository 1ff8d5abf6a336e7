"""Graphs as text for the tests of passes: two heads, and the comparison before and after."""

from __future__ import annotations

from pefslc.ir.parse import parse_graph
from pefslc.ir.text import print_graph
from pefslc.passes.manager import Pass, check_pass

__all__ = ["XI", "X", "body", "check", "unchanged"]

X = 'graph "g" quantized\ninput "x" as %x: real[1,2,2,2]  // (input) x\n%q: Q3.1[1,2,2,2] = quantize %x  // (Quant)\n'
XI = 'graph "g" integer\ninput "x" as %x: [-16..15]*(2^-1)[1,2,2,2] quantizer(Q4.1, half_even)  // (input) x\n'


def body(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def check(p: Pass, head: str, before: str, after: str) -> None:
    """`p` turns the operations `before` into `after`, changes no code, and finds nothing to do a second time."""
    graph = parse_graph(head + body(before))
    changed = p.run(graph)
    assert print_graph(changed) == head + body(after)
    check_pass(p, graph, changed)
    assert p.run(changed) is changed


def unchanged(p: Pass, head: str, text: str) -> None:
    graph = parse_graph(head + body(text))
    assert p.run(graph) is graph
