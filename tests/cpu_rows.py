"""Processors for the C target's tests."""

from __future__ import annotations

from dataclasses import replace

from pefslc.targets.c.cpus import CPUS, Cpu

__all__ = ["LAYOUTS"]


def _layout(cpu: Cpu) -> Cpu:
    """What of the row decides the C."""
    narrow = None if cpu.narrow is None else _layout(cpu.narrow)
    few = None if cpu.few is None else _layout(cpu.few)
    return replace(cpu, name="", summary="", compiler=(), narrow=narrow, few=few)


# Names of rows, one for each layout: rows that differ in their names alone give the same C.
LAYOUTS = tuple({_layout(cpu): cpu.name for cpu in reversed(CPUS)}.values())[::-1]
