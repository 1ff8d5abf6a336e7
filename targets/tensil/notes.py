"""What the summary of a compile says of a program beside its table: cycles, memory, time, and what exactness costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pefslc.artifacts.costs import Clock
from pefslc.targets.protocol import OpReport
from pefslc.targets.tensil.cost.cycles import CycleReport
from pefslc.targets.tensil.lowered_network import LoweredNetwork
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.batches import Batches
from pefslc.targets.tensil.schedule.schedule import Schedule

__all__ = ["batch_notes", "notes_on_exactness", "notes_on_price", "notes_on_time", "program_notes"]

_SHOWN = 4  # kinds of work


def program_notes(program: TensilProgram, plan: Schedule, report: CycleReport, architecture: str) -> tuple[str, ...]:
    """What the cycles are spent on, and how much of DRAM1 is taken."""
    spent = sorted(report.of(list(report.spent)).items(), key=lambda i: -i[1])
    kinds = ", ".join(f"{kind.value} {count:,}" for kind, count in spent[:_SHOWN])
    return (
        *batch_notes(plan.batches, report.total),
        f"on {architecture}: {kinds} modelled cycles",
        f"{len(program):,} instructions, {len(plan.constants):,} of {program.architecture.dram1_depth:,} DRAM1 vectors",
    )


def batch_notes(batches: Batches, cycles: int) -> tuple[str, ...]:
    """Of a batch: the cycles of one picture, and how many pictures groups work on at once, in order."""
    if batches.size == 1:
        return ()
    return (
        f"{cycles / batches.size:,.0f} modelled cycles a picture, of {batches.size} in a run; layers work on "
        f"{', then '.join(map(str, batches.in_order))} at once",
    )


def notes_on_time(clock: Clock | None, cycles: int, batch: int) -> tuple[str, ...]:
    """How long a run takes, where the clock is known."""
    if clock is None:
        return ("no clock is known for this architecture: --clock-mhz makes milliseconds of modelled cycles",)
    ms = clock.milliseconds(cycles)
    what = "" if batch == 1 else f" for {batch} pictures"
    speed = f"{batch * 1e3 / ms:,.1f} frames a second, at {clock.mhz:g} MHz ({clock.source})"
    return (f"modelled: {ms:,.3f} ms{what}, {speed}",)


def notes_on_exactness(lowered: LoweredNetwork, ops: Mapping[str, OpReport]) -> tuple[str, ...]:
    """The cycles of the operations that are exact because they are made of several words, or are corrected."""

    halves = {part.result.name: name for name, parts in lowered.split.bends.parts.items() for part in parts}

    def cycles(names: Iterable[str]) -> list[int]:
        return [ops[name].cycles or 0 for name in dict.fromkeys(halves.get(name, name) for name in names)]

    notes: tuple[str, ...] = ()
    if wide := cycles(lowered.split.wide.plans):
        layers = "layer has sums" if len(wide) == 1 else "layers have sums"
        notes += (f"{len(wide)} {layers} wider than a word, made of several: {sum(wide):,} modelled cycles",)
    if corrected := cycles(lowered.split.wide.corrections):
        what = "requantization is" if len(corrected) == 1 else "requantizations are"
        notes += (f"{len(corrected)} {what} corrected by the residual: {sum(corrected):,} modelled cycles",)
    return notes


def notes_on_price(
    lowered: LoweredNetwork, bounded: Collection[str], *, at_any_price: bool, wide: bool
) -> tuple[str, ...]:
    """Of a program that is bounded: why, and what `--wide` would do; or that it changed nothing. `bounded`: the
    requantizations that are. `wide`: whether the option was given.
    """
    if wide and not lowered.split.wide.corrections:
        if lowered.native is not None:
            return ("--wide changes nothing: the machine's own arithmetic rounds, and nothing corrects that",)
        why = "no requantization that is bounded can be corrected" if bounded else "it is exact without a correction"
        return (f"--wide changes nothing: {why}",)
    if lowered.times_for_exact is not None:
        return (f"bounded; exact with --wide, at {lowered.times_for_exact:.1f} times the cycles",)
    if not bounded or lowered.native is not None or at_any_price:
        return ()
    what = "1 requantization" if len(bounded) == 1 else f"{len(bounded)} requantizations"
    why = f"no words were found that give every code of {what}"
    return (f"bounded: {why}; --wide corrects what can be, and says how many cycles that takes",)
