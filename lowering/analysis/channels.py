"""What is given per channel has as many entries as the tensor has channels, or one entry for all.

And the numbers of stages are such that they can be computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pefslc.geometry.shapes import Shape
from pefslc.ir.interface import GraphInput, GraphOutput
from pefslc.ir.output_function import OutputFunctionKind
from pefslc.ir.quantized import BatchNorm, BiasAdd, LeakyRelu, Quantize, QuantizedConstant, Scaling
from pefslc.ir.value import CodeRange, Op, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.stages import Affine, LeakyReluStage, SnapStage, Stage

__all__ = ["channel_faults", "input_faults", "output_faults", "scale_faults"]

_ELEMENT_BY_ELEMENT = (OutputFunctionKind.SIGMOID, OutputFunctionKind.TANH)


def channel_faults(op: Op) -> list[str]:
    """Of the stages of an operation, and of the scale that a quantizer makes."""
    match op:
        case BatchNorm() | BiasAdd() | Scaling() | LeakyRelu():
            return [*_stage_faults([op.stage], op.input.type.channels)]
        case Quantize():
            element = op.result.type.element
            steps = len(element.scale.steps) if isinstance(element, Quantization) else 1
            return _along_axis(op.stages, steps, op.input.type.shape, op.channel_axis)
        case QuantizedConstant() if isinstance(op.result.type.element, Quantization):
            steps, shape = len(op.quantization.scale.steps), op.result.type.shape
            return [] if steps == 1 or steps in shape else [f"a scale of {steps} steps on the shape {list(shape)}"]
    return []


def input_faults(given: GraphInput) -> list[str]:
    """Of the stages and the quantizer of an input."""
    steps = 1 if given.quantizer is None else len(given.quantizer.quantization.scale.steps)
    return _along_axis(given.stages, steps, given.value.type.shape, given.channel_axis)


def output_faults(output: GraphOutput) -> list[str]:
    """Of the map of an output, and of the axis of its function."""
    faults: list[str] = []
    channels, rank = output.value.type.channels, len(output.value.type.shape)
    if output.map is not None and not {len(output.map.scale), len(output.map.offset)} <= {1, channels}:
        faults.append(
            f"a map of {len(output.map.scale)} scales and {len(output.map.offset)} offsets on {channels} channels"
        )
    function = output.function
    if function is not None and function.kind not in _ELEMENT_BY_ELEMENT and not 1 <= function.axis < rank:
        faults.append(f"{function.kind.value} along axis {function.axis} of {rank} axes")
    return faults


def scale_faults(value: Value) -> list[str]:
    """Of the scale of a tensor of codes, whose channels lie on axis 1."""
    element = value.type.element
    if not isinstance(element, CodeRange) or len(element.scale.steps) in (1, value.type.channels):
        return []
    return [f"a scale of {len(element.scale.steps)} steps on {value.type.channels} channels"]


def _along_axis(stages: Sequence[Stage], steps: int, shape: Shape, axis: int) -> list[str]:
    if not shape:  # one number has one channel
        channels = 1
    elif 0 <= axis < len(shape):
        channels = shape[axis]
    elif axis == 1:  # where channels lie, if there are any
        channels = 1
    else:
        return [f"channels on axis {axis} of {len(shape)} axes"]
    faults = [*_stage_faults(stages, channels)]
    return faults if steps in (1, channels) else [*faults, f"a scale of {steps} steps on {channels} channels"]


def _stage_faults(stages: Sequence[Stage], channels: int) -> Iterator[str]:
    for stage in stages:
        if isinstance(stage, Affine):
            counts = {len(part) for part in (stage.factor, stage.addend, stage.radicand, stage.offset)}
        elif isinstance(stage, LeakyReluStage):
            counts = {stage.channels}
        else:
            if isinstance(stage, SnapStage) and stage.step <= 0:
                yield f"a step of {stage.step}, which is not above 0"
            continue
        if isinstance(stage, Affine) and min(stage.radicand, default=1) <= 0:
            yield f"a radicand of {min(stage.radicand)}, which is not above 0"
        if len(counts) > 1:
            yield f"a stage whose lists have {', '.join(map(str, sorted(counts)))} entries"
        elif not counts <= {1, channels}:
            yield f"a stage of {stage.channels} channels on {channels} channels"
