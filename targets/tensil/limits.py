"""What the TCU can hold, for the passes."""

from __future__ import annotations

from pefslc.analysis.limits import TargetLimits
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.native_words import native_format, native_weights

__all__ = ["limits_of"]


def limits_of(data_type: DataType) -> TargetLimits:
    """The width of words, and what has wider ones. Wider sums are made of words, where there is a way (`wide`)."""
    widest = max(DataType, key=lambda d: d.width_bits)
    wider = "--target c, whose sums have 64 bits"
    if data_type is not widest:
        wider = f"an architecture with {widest.value}, --arch FILE.tarch; or {wider}"
    name = f"the TCU with {data_type.value}"
    own, weights = native_format(data_type), native_weights(data_type)
    return TargetLimits(data_type.width_bits, name, own, wider, splits_sums=True, native_weights=weights)
