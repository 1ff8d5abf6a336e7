"""The functions that compute a convolution.

An ordinary convolution is one function. One over a dilated input is a function for each form of its phases, which is
called for each phase with its weights, its pads and the place of its first result; most often all have one form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from pefslc.targets.c.dot_loops import DotLoops
from pefslc.targets.c.part_loops import DepthwiseLoops
from pefslc.targets.c.prototypes import Parameter
from pefslc.targets.c.steps import ConvolutionStep, DepthwisePart, DepthwiseStep, DotPart, DotStep, Part, WinogradStep
from pefslc.targets.c.taps import Gather
from pefslc.targets.c.winograd_loops import WinogradLoops

__all__ = ["AnyLoops", "convolution_loops", "part_calls"]

AnyLoops = DotLoops | DepthwiseLoops | WinogradLoops
Scratch = TypeVar("Scratch", Parameter, str)


def convolution_loops(
    name: str, parameters: Sequence[Parameter], weight: str, step: ConvolutionStep
) -> Sequence[AnyLoops]:
    """The functions, in the order of their first parts. `parameters` are those of the step, scratch last."""
    if not step.is_phased:
        (part,) = step.parts
        top, left = _first_pads(part)
        return [_loops(step, part, name, parameters, weight, (str(top), str(left)))]
    tensors = parameters[: len(parameters) - len(step.scratch)]
    scratch = parameters[len(tensors) :]
    found: dict[object, AnyLoops] = {}
    for part in step.parts:
        form = _form(part)
        if form not in found:
            weights = Parameter(f"const PEFSLC_FLASH {step.weight_type} *restrict ", "weights")
            pads = [Parameter("int32_t ", "top"), Parameter("int32_t ", "left")] if part.window else []
            own = [*tensors, *_used(scratch, part), weights, *pads]
            found[form] = _loops(step, part, f"{name}_part{len(found)}", own, "weights", ("top", "left"))
    return list(found.values())


def part_calls(loops: Sequence[AnyLoops], weight: str, step: ConvolutionStep) -> list[str]:
    """One call for each part; none where the step is one function."""
    if not step.is_phased:
        return []
    functions = {_form(each.part): each.name for each in loops}
    first_weights = np.cumsum([0, *(part.weight.size for part in step.parts)]).tolist()
    calls = []
    for part, first in zip(step.parts, first_weights, strict=False):
        place = (part.rows.start * step.result.shape[3] + part.columns.start) * step.result.shape[1]
        tensors = ["x", *(f"r{i} + {place}" for i in range(len(step.added))), f"y + {place}"]
        scratch = _used(step.scratch_names, part)
        pads = [str(pad) for pad in _first_pads(part)] if part.window else []
        calls.append(f"{functions[_form(part)]}({', '.join([*tensors, *scratch, f'{weight} + {first}', *pads])});")
    return calls


def _loops(
    step: ConvolutionStep, part: Part, name: str, parameters: Sequence[Parameter], weight: str, pads: tuple[str, str]
) -> AnyLoops:
    common = name, tuple(parameters), weight, *pads
    if isinstance(step, WinogradStep):
        assert isinstance(part, DotPart)
        return WinogradLoops(*common, step, part)
    if isinstance(step, DotStep):
        assert isinstance(part, DotPart)
        return DotLoops(*common, step, part)
    assert isinstance(step, DepthwiseStep)
    assert isinstance(part, DepthwisePart)
    return DepthwiseLoops(*common, step, part)


def _used(scratch: Sequence[Scratch], part: Part) -> Sequence[Scratch]:
    """Without a gather there is no copy."""
    return scratch[:1] if isinstance(part, DotPart) and part.gather is Gather.NONE else scratch


def _first_pads(part: Part) -> tuple[int, int]:
    return (0, 0) if part.window is None else part.window.pads[:2]


def _form(part: Part) -> object:
    """What decides the loops of a part, but for its weights, its first pads and its place."""
    window = None if part.window is None else replace(part.window, pads=(0, 0, 0, 0))
    return window, len(part.rows), len(part.columns), part.weight.shape
