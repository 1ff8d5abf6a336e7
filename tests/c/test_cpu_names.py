"""The names of processors: one that is nearly right is told, and the emitted Makefile has the same ones."""

from __future__ import annotations

import re

import pytest

from pefslc import CompileError
from pefslc.targets.c.cpus import CPUS
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cortex_m4", "cortex-m4"), ("Cortex-M0+", "cortex-m0plus"), ("x86_64_v3", "x86-64-v3"), ("RV32", "rv32")],
)
def test_a_name_that_is_nearly_right_is_told(name: str, meant: str) -> None:
    with pytest.raises(CompileError, match=f"did you mean {meant}\\?"):
        CTarget(cpu=name)


@pytest.mark.parametrize("name", ["", "quantum"])
def test_of_a_name_like_no_other_an_example_is_given(name: str) -> None:
    with pytest.raises(CompileError, match="for example cpu="):
        CTarget(cpu=name)


@pytest.mark.parametrize(
    ("cpu", "emulated"), [("generic", "cortex-m4"), ("rv32", "cortex-m4"), ("cortex-m3", "cortex-m3")]
)
def test_the_makefile_emulates_the_processor_that_the_c_is_for(cpu, emulated, build_graph):  # type: ignore[no-untyped-def]
    b = build_graph("small")
    graph = b.graph(b.clamp(b.input((1, 2)), 0, 3))
    text = CTarget(cpu=cpu, emit_main=True).lower(graph, TargetOptions()).files["Makefile"].decode()
    assert re.findall(r"^CPU \?= (.*)$", text, re.MULTILINE) == [emulated]
    machines = set(re.findall(r"^MACHINE_(\S+) :=", text, re.MULTILINE))
    assert machines == {row.name for row in CPUS if row.name.startswith("cortex-m")}
