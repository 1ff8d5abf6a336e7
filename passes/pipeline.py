"""The passes, in the order in which they run. This page is to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pefslc.analysis.limits import TargetLimits
from pefslc.ir.graph import Level
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import CalibratedFormats
from pefslc.passes.centre_sums import CentreSums
from pefslc.passes.change_formats import ChangeFormats
from pefslc.passes.check_accumulators import CheckAccumulators
from pefslc.passes.check_format import CheckFormat, CheckGivenFormats
from pefslc.passes.dead_code import RemoveDeadCode
from pefslc.passes.drop_identities import DropIdentities
from pefslc.passes.fill_input import FillInput
from pefslc.passes.fit_accumulators import FittedFormats, FittedUniformFormat
from pefslc.passes.fit_given_formats import FittedGivenFormats, GivenFormats
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.passes.fold_constants import FoldConstants
from pefslc.passes.input_formats import InputFormats
from pefslc.passes.input_grid import InputGrid
from pefslc.passes.lower_to_integer import LowerToInteger
from pefslc.passes.manager import Pass
from pefslc.passes.merge_elementwise import MergeElementwise
from pefslc.passes.merge_padding import MergePadding
from pefslc.passes.merge_stages import MergeStages
from pefslc.passes.quantize_after_training import QuantizeAfterTraining
from pefslc.passes.quantize_before_movement import QuantizeBeforeMovement
from pefslc.passes.quantize_inputs import QuantizeInputs
from pefslc.passes.separate_bias import SeparateBias
from pefslc.passes.shorten_sums import ShortenSums
from pefslc.passes.tighten_ranges import TightenRanges

__all__ = ["SAID_BY_USER", "pipeline", "said_by_user", "to_integer"]

# What these leave is what the model means: all later passes are held to it.
SAID_BY_USER = (
    FoldBatchNorm.name, QuantizeAfterTraining.name, CheckFormat.name, CheckGivenFormats.name, ChangeFormats.name,
    FillInput.name, InputGrid.name,
)  # fmt: skip


def said_by_user(
    fmt: FixedPoint | CalibratedFormats | GivenFormats | None,
    limits: TargetLimits,
    *,
    allow_overflow: bool,
    requantize: bool,
    input_fmt: InputFormats = None,
) -> tuple[Pass, ...]:
    """The passes by which --fmt, --formats and --input-fmt assert, or fill what is left open: those of SAID_BY_USER."""
    grid = () if input_fmt is None else (InputGrid(input_fmt),)
    if fmt is None:
        return grid
    if isinstance(fmt, FixedPoint):
        # Of what the file has, not of what we make.
        agree: Pass = ChangeFormats(fmt) if requantize else CheckFormat(fmt)
        uniform = FittedUniformFormat(fmt, limits, to_integer(limits), input_fmt)
        return FoldBatchNorm(), agree, QuantizeAfterTraining(uniform), *grid, FillInput(fmt)
    if isinstance(fmt, GivenFormats):
        by_name = FittedGivenFormats(fmt, limits, to_integer(limits), not allow_overflow, input_fmt)
        agree = CheckGivenFormats(fmt.asserted)
        return FoldBatchNorm(), agree, QuantizeAfterTraining(by_name), *grid, FillInput(fmt.filled)
    fmt = replace(fmt, input_fmt=input_fmt)
    formats = fmt if allow_overflow else FittedFormats(fmt, limits, to_integer(limits))
    return FoldBatchNorm(), QuantizeAfterTraining(formats), *grid


def to_integer(limits: TargetLimits | None = None, plugins: Sequence[Pass] = ()) -> tuple[Pass, ...]:
    """From a quantized graph to an integer graph whose ranges are proven."""
    return (
        # What the file says, with its constants evaluated.
        FoldConstants(),
        # What the host does: the quantizers of inputs, and what stands before them.
        QuantizeInputs(),
        MergePadding(),
        # Everything between an accumulator and its quantizer moves into the quantizer.
        SeparateBias(),
        MergeElementwise(),
        MergeStages(),
        QuantizeBeforeMovement(),
        MergeStages(),  # what stood before a pool, too
        RemoveDeadCode(Level.QUANTIZED),
        *(p for p in plugins if p.level is Level.QUANTIZED),
        # Values become codes; Add and Concat get one scale; quantizers become staircases.
        LowerToInteger(),
        # Smaller: nothing that changes nothing, no code outside of what can occur.
        DropIdentities(),
        TightenRanges(),
        RemoveDeadCode(Level.INTEGER),
        # What makes room in the target's accumulator.
        *(() if limits is None else [ShortenSums(limits), RemoveDeadCode(Level.INTEGER), CentreSums(limits)]),
        *(p for p in plugins if p.level is Level.INTEGER),
    )


def pipeline(
    limits: TargetLimits,
    *,
    fmt: FixedPoint | CalibratedFormats | GivenFormats | None = None,
    allow_overflow: bool = False,
    requantize: bool = False,
    plugins: Sequence[Pass] = (),
    input_fmt: InputFormats = None,
    host_words: InputFormats = None,
) -> tuple[Pass, ...]:
    """All passes from the imported graph to what the target lowers. A user's passes run last on their level.

    fmt         one format, asserted or filled in; or a way to choose the formats of a float model; or formats by name
    requantize  a quantized model that contradicts it is changed, not refused
    input_fmt   the grid on which the host hands over inputs, or by name some of them
    host_words  by name, the words in which it does where it knows no format
    """
    return (
        *said_by_user(fmt, limits, allow_overflow=allow_overflow, requantize=requantize, input_fmt=input_fmt),
        # What a host that knows no format hands over, whatever format comes next.
        *([InputGrid(host_words, "words")] if host_words else []),
        *to_integer(limits, plugins),
        # The proof.
        CheckAccumulators(limits, allow_overflow),
    )
