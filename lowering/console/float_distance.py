"""How far what was compiled is from the model before --fmt: in the summary's line; a warning where that is far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from pefslc.driver.program import Program
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint
from pefslc.reports.float_distance import FloatDistance, format_that_holds
from pefslc.reports.given_inputs import format_for
from pefslc.reports.layer_report import layer_name
from pefslc.reports.likely_saturation import is_run_on_random_inputs
from pefslc.reports.saturation import Saturation
from pefslc.verification.outcome import Verification

__all__ = ["against_model", "measured_distance", "print_warnings"]

_LISTED = 5
_FAR = 0.05  # of the largest output


def measured_distance(program: Program, verification: Verification | None = None) -> FloatDistance | None:
    """Of the emitted files where they ran; else of the quantized model on calibration data, if they are the same."""
    if verification is not None:
        return verification.distance
    if program.post_training is None or program.emission.native is not None:
        return None
    return program.post_training.distance


def against_model(program: Program, verification: Verification | None = None) -> str:
    """What follows "every layer computes exactly what Q4.12 says"; empty where the model is compiled as it is."""
    changed = program.lowered.before_format
    if changed is None:
        return ""
    distance = measured_distance(program, verification)
    if distance is not None:
        return f"; against {changed[1]}: {distance}"
    return f"; against {changed[1]}: not measured, --verify does"


def print_warnings(
    program: Program, fmt: FixedPoint | AutoFormat | None, verification: Verification | None = None
) -> None:
    """On stderr: what saturates heavily, measured or, without data, guessed; arrays that belong to no model here."""
    for line in (*_saturating(program, fmt, verification), *_strangers(program, verification)):
        click.echo(line, err=True)


def _saturating(
    program: Program, fmt: FixedPoint | AutoFormat | None, verification: Verification | None
) -> Iterator[str]:
    measured = [] if program.post_training is None else [program.post_training.distance]
    measured += [] if verification is None or verification.distance is None else [verification.distance]
    for distance in measured:
        if not distance.misleads:
            continue
        inputs = {i.name for i in program.graph.inputs}
        foreign = [s for s in distance.saturated if s.name in inputs and s.heavy]
        if foreign and isinstance(fmt, AutoFormat):  # formats were chosen so that the data of --calibrate fits
            yield f"warning: these inputs are not like those of --calibrate: {distance}"
            yield from _listed(foreign)
            yield "  help: give both as the model was trained on, with the same mean and scale"
            continue
        yield f"warning: {program.quantized_to} does not suit this model: {distance}"
        yield from _listed(distance.saturated)
        yield f"  help: {_other_formats(program, fmt, distance.saturated)}"
    if verification is not None and verification.distance is not None:
        sums = dict.fromkeys(layer_name(layer.origin) for layer in verification.layers if layer.saturated)
        if sums and verification.distance.worst.relative >= _FAR:
            yield f"warning: native arithmetic does not suit this model: {verification.distance}"
            yield f"  sums of {', '.join(sums)} saturate"
            yield "  help: --target c computes with the same format, and its sums do not saturate"
    for saturation in () if verification is None else verification.saturated_inputs:
        if saturation.heavy:
            quantization = program.lowered.given_inputs[saturation.name]
            yield f"warning: the format given to an input does not suit these inputs: {saturation}"
            if (holds := format_for(saturation, quantization)) is not None:
                yield f"  help: --input-fmt {saturation.name}={holds} holds them in as many bits"
    for clipped in () if verification is None else verification.clipped_inputs:
        if clipped.heavy:
            yield f"warning: {clipped}"
            yield "  help: integers agree on any inputs; but are these as the model was trained on, normalized?"
    if not measured and program.lowered.float_model is not None and not is_run_on_random_inputs(program.macs):
        yield "note: the network is too large to be run on random inputs: only its weights were looked at"
        yield "  help: measure it: --verify or --calibrate INPUTS.npz, with inputs as the model will see them"
    if not measured and (found := program.likely_saturation()):
        yield f"warning: {program.quantized_to} may not suit this model: on random inputs, for want of others,"
        yield from _listed(found)
        yield "  help: measure it: --verify or --calibrate INPUTS.npz, with inputs as the model will see them"


def _listed(found: Sequence[Saturation]) -> Iterator[str]:
    for saturation in found[:_LISTED]:
        yield f"  {saturation}"
    if len(found) > _LISTED:
        yield f"  and {len(found) - _LISTED} more"


def _other_formats(program: Program, fmt: FixedPoint | AutoFormat | None, found: Sequence[Saturation]) -> str:
    """What to give to --fmt instead: a format that holds what saturates, if its sums fit the target's accumulator."""
    advice = []
    limits = program.target.limits(program.options)
    wider = format_that_holds(fmt, found)
    if wider is not None and 2 * wider.bits <= limits.accumulator_bits:
        advice.append(f"--fmt {wider} holds all of that, in steps of {2.0**-wider.fraction_bits:g}")
    if program.lowered.float_model is not None and isinstance(fmt, FixedPoint):
        advice.append(f"--fmt auto:{fmt.bits} --calibrate INPUTS.npz gives each tensor a format of its own")
    elif program.lowered.float_model is not None and fmt is None:
        advice.append("in the file of --formats give them formats that hold their values, or auto:B and --calibrate")
    elif isinstance(fmt, AutoFormat):
        advice.append("--calibrate inputs as the model will see them, or ask for more bits")
    return "; ".join(advice) or "train the model in the format (`pefslc explain training`)"


def _strangers(program: Program, verification: Verification | None) -> Iterator[str]:
    for name in () if verification is None else verification.strangers:
        changed = program.lowered.before_format
        called = "" if changed is None else f"{changed[1]} nor "
        yield f"warning: {name} is what neither {called}its quantization to {program.quantized_to} computes"
        yield "  help: does the array belong to these inputs and to this model?"
