"""What the header says of the host's part: how it makes codes of an input, and values of an output's codes."""

from __future__ import annotations

from fractions import Fraction

from pefslc.ir.graph import GraphInput, GraphOutput, OutputMap
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage

__all__ = ["input_text", "output_text"]

_LONGEST_RATIONALS = 2000
_SHOWN = 4


def input_text(graph_input: GraphInput) -> str:
    """The function from numbers to codes, exactly."""
    assert graph_input.quantizer is not None
    integers = f"x is the {graph_input.integers} of the model's file; " if graph_input.integers else ""
    axis = "" if graph_input.channel_axis == 1 else f"; the channels lie along axis {graph_input.channel_axis}"
    if graph_input.is_codes:
        return f"code = x, the {graph_input.integers} of the model's file"
    if not graph_input.stages:
        return integers + _quantizer_text(graph_input.quantizer, "x") + axis
    steps = ", then ".join(_stage_text(stage) for stage in graph_input.stages)
    return f"{integers}y = x, then {steps}, then {_quantizer_text(graph_input.quantizer, 'y')}, as is y{axis}"


def output_text(output: GraphOutput) -> str:
    """The function from codes to values."""
    assert output.map is not None
    return _map_text(output.map) + ("" if output.function is None else f"; then {output.function}")


def _stage_text(stage: Stage) -> str:
    match stage:
        case Affine():
            parts = (stage.factor, stage.addend, stage.radicand, stage.offset)
            factor, addend, radicand, offset = (_rationals(part) for part in parts)
            inner = f"{factor} * y" + (f" + {addend}" if any(stage.addend) else "")
            divided = f"({inner}) / sqrt({radicand})" if stage.has_root else inner
            return f"y = {divided}" + (f" + {offset}" if any(stage.offset) else "")
        case ClipStage():
            raised = "y" if stage.low is None else f"max(y, {stage.low})"
            return f"y = {raised if stage.high is None else f'min({raised}, {stage.high})'}"
        case LeakyReluStage() if not any(stage.alphas):
            return "y = max(y, 0)"
        case LeakyReluStage():
            return f"y = y if y >= 0, else {_rationals(stage.alphas)} * y"
    raise AssertionError("no host applies it")


def _quantizer_text(quantizer: Quantizer, x: str) -> str:
    q = quantizer.quantization
    steps = _rationals(q.scale.steps)
    rounding = quantizer.rounding.value.replace("_", " ")
    shifted = f"{x} / scale" if not q.zero_point else f"{x} / scale + {q.zero_point}"
    if quantizer.adds_zero_point_last and q.zero_point:
        shifted, code = f"{x} / scale", f"round({x} / scale) + {q.zero_point}"
    else:
        code = f"round({shifted})"
    exact = f"{shifted} is exact, not rounded to a float before"
    return f"code = clip({code}, {q.low}, {q.high}), round {rounding}, scale = {steps}; {exact}"


def _map_text(output_map: OutputMap) -> str:
    if not any(output_map.offset):
        return f"value = code * scale, scale = {_rationals(output_map.scale)}"
    scale, offset = _rationals(output_map.scale), _rationals(output_map.offset)
    return f"value = code * scale + offset, scale = {scale}, offset = {offset}"


def _rationals(values: tuple[Fraction, ...]) -> str:
    """Exact, unless that would fill a page."""
    text = ", ".join(map(str, values))
    if len(text) > _LONGEST_RATIONALS:
        text = f"{', '.join(repr(float(v)) for v in values[:_SHOWN])}... (all, exact, in the sidecar file)"
    return text if len(values) == 1 else f"per channel [{text}]"
