"""Features as heads take them: [N, D] codes as int64 or values as float64, refused where they are neither."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError

__all__ = ["float_features", "integer_features"]


def integer_features(features: NDArray[np.generic], what: str) -> NDArray[np.int64]:
    """Codes of any integer type, [N, D] with N, D > 0. Raises CompileError."""
    _check(features, np.issubdtype(features.dtype, np.integer), what, "integers, the codes of the network's output")
    codes = features.astype(np.int64)
    if features.dtype == np.uint64 and (codes < 0).any():
        raise CompileError(
            Code.FEATURES, f"{what} exceed 63 bits", hint="codes of the network's output have a few bits"
        )
    return codes


def float_features(features: NDArray[np.generic], what: str) -> NDArray[np.float64]:
    """Finite values of any float type, [N, D] with N, D > 0. Raises CompileError."""
    _check(features, np.issubdtype(features.dtype, np.floating), what, "finite floats")
    values = features.astype(np.float64)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if broken.size:
        raise CompileError(
            Code.FEATURES,
            f"{what}: {broken.size} of {len(values)} rows are not finite, row {broken[0]} first",
            hint="a network that diverged in training makes such; train it again with a lower rate",
        )
    return values


def _check(features: NDArray[np.generic], right_type: bool, what: str, wanted: str) -> None:
    if features.ndim != 2 or 0 in features.shape or not right_type:
        raise CompileError(
            Code.FEATURES,
            f"{what} are {features.dtype} of shape {list(features.shape)}",
            hint=f"{wanted}, one row for each image",
        )
