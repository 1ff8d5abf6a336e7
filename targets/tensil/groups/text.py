"""The printed form of programs of groups in codes. It is for people: of weights it shows shape, range, and a hash (`#`)
that is the same where the weights are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.groups.group import (
    AddTensor,
    Group,
    Limit,
    LinearHead,
    MaxHead,
    Requantization,
    Rounding,
    Step,
    TransposeHead,
)
from pefslc.targets.tensil.groups.group_program import GroupProgram, Port, StoredTensor
from pefslc.targets.tensil.groups.layout import ALONE, Layout

__all__ = ["array_text", "layout_text", "port_line", "print_groups", "tensor_notes", "window_text"]


def print_groups(program: GroupProgram) -> str:
    """One line for each tensor that comes in or goes out, a paragraph for each group."""
    lines = [*(port_line("input", port, program.tensors[port.tensor]) for port in program.inputs), ""]
    for group in program.groups:
        lines += [*_group_lines(program, group), ""]
    lines += [port_line("output", port, program.tensors[port.tensor]) for port in program.outputs]
    return "\n".join(lines) + "\n"


def port_line(kind: str, port: Port, stored: StoredTensor) -> str:
    """An input or output, by its ONNX name."""
    moves = "".join(f", {move.kind}d by the host {list(move.axes)}" for move in port.moves)
    return f'{kind} "{port.name}" = %{port.tensor}: {layout_text(stored.layout)}{tensor_notes(stored)}{moves}'


def layout_text(layout: Layout) -> str:
    return f"[{layout.channels}, {layout.height}, {layout.width}]"


def tensor_notes(tensor: StoredTensor) -> str:
    """Codes, and what a helper is for."""
    notes = f" codes {tensor.low}..{tensor.high}"
    if tensor.of:
        notes += f", {tensor.role.value} of %{tensor.of}"
    if tensor.packing != ALONE:
        notes += ", packed " + " ".join(f"({dy},{dx})" for dy, dx in tensor.packing)
    if tensor.steps != (1, 1):
        notes += f" in steps of {tensor.steps[0]},{tensor.steps[1]}"
    return notes


def array_text(array: NDArray[np.int64]) -> str:
    """The shape, the range, and a hash that tells arrays apart."""
    if not array.any():
        return "0"
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:8]
    return f"[{','.join(map(str, array.shape))}] {array.min()}..{array.max()} #{digest}"


def window_text(window: Window) -> str:
    """What of a window is not as in a window of one tap."""
    parts = [f"{window.kernel[0]}x{window.kernel[1]}"]
    if window.strides != (1, 1):
        parts.append(f"strides={window.strides[0]},{window.strides[1]}")
    if any(window.pads):
        parts.append("pads=" + ",".join(map(str, window.pads)))
    if window.dilations != (1, 1):
        parts.append(f"dilations={window.dilations[0]},{window.dilations[1]}")
    if window.dilates_input:
        parts.append(f"input_dilations={window.input_dilations[0]},{window.input_dilations[1]}")
    return " ".join(parts)


def _group_lines(program: GroupProgram, group: Group) -> Iterator[str]:
    stored = program.tensors[group.result]
    computes = f"  // computes {', '.join(group.ops)}" if group.ops else "  // a helper"
    yield f"%{group.result}: {layout_text(group.layout)}{tensor_notes(stored)}{computes}"
    match group.head:
        case LinearHead() as head:
            for term in head.terms:
                yield f"    + conv %{term.tensor} {window_text(term.window)} weight {array_text(term.weight)}"
            if head.bias.any():
                yield f"    + bias {array_text(head.bias)}"
            if head.stationary is not None:
                yield "    activations stay, weights move: taps " + _taps_text(head.stationary.taps)
        case MaxHead() as head:
            yield f"    max %{head.tensor} {window_text(head.window)}"
        case TransposeHead() as head:
            yield f"    transpose %{head.tensor}"
    yield from (f"    {_step_text(step)}" for step in group.steps)


def _taps_text(taps: Sequence[Sequence[int]]) -> str:
    return " | ".join(",".join(map(str, block)) for block in taps)


def _step_text(step: Step) -> str:
    match step:
        case Requantization(staircase, _):
            return f"requantize {staircase_text(staircase)}"
        case Rounding(_, low, high):
            return f"round a line over {low}..{high}"
        case Limit(low, high):
            return f"limit {low}..{high}"
        case AddTensor(tensor):
            return f"add %{tensor}"


def staircase_text(staircase: Staircase) -> str:
    """Channels, the codes before and after, and the thresholds unless they are too many to hold."""
    channels = f"{staircase.channels} channels " if staircase.channels > 1 else ""
    codes = f"{channels}{staircase.domain_low}..{staircase.domain_high} -> {staircase.low}..{staircase.high}"
    thresholds = f"[{staircase.channels},{staircase.steps}]"
    return f"{codes} thresholds {thresholds if staircase.has_many_steps else array_text(staircase.thresholds)}"
