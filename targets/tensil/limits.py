"""What the TCU can hold, for the passes."""

from __future__ import annotations

from pefslc.analysis.limits import SplitWidths, TargetLimits
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.native_words import native_format, native_weights

__all__ = ["limits_of"]

# Networks of 16-bit codes, narrowed to these, compile; those of 12-bit codes do not, where BatchNorm is kept.
_SPLIT_WIDTHS = {DataType.FP16BP8: SplitWidths(weights=8, inputs=10, sums=23)}


def limits_of(data_type: DataType) -> TargetLimits:
    """The width of words, and what has wider ones. Wider sums are made of words, where there is a way (`wide`)."""
    widest = max(DataType, key=lambda d: d.width_bits)
    wider = "--target c, whose sums have 64 bits"
    if data_type is not widest:
        wider = f"an architecture with {widest.value}, --arch FILE.tarch; or {wider}"
    name = f"the TCU with {data_type.value}"
    own, weights = native_format(data_type), native_weights(data_type)
    split = _SPLIT_WIDTHS.get(data_type)
    return TargetLimits(
        data_type.width_bits, name, own, wider, splits_sums=True, split_widths=split, native_weights=weights
    )
