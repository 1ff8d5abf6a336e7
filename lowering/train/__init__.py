"""From torch to QONNX: Qm.n quantizers for Brevitas, BatchNorm folding, a checked export. Needs the extra `train`.

from pefslc.train import export, fixed_point, fold_batchnorm, formats_of, with_quantizers
"""

from __future__ import annotations

from pefslc.train.extra import require_extra

require_extra()

from pefslc.train.export import export  # noqa: E402
from pefslc.train.folding import fold_batchnorm  # noqa: E402
from pefslc.train.quantizers import Quantizers, fixed_point  # noqa: E402
from pefslc.train.tensor_formats import TensorFormats, formats_of, uniform_formats  # noqa: E402
from pefslc.train.with_quantizers import with_quantizers  # noqa: E402

__all__ = [
    "Quantizers",
    "TensorFormats",
    "export",
    "fixed_point",
    "fold_batchnorm",
    "formats_of",
    "uniform_formats",
    "with_quantizers",
]
