"""A trained backbone in integers: after training, or trained on in formats that were given or chosen from data.

float = train(description, base, Recipe())
after_training(float, "Q2.4", base.images)                     # a Program: PTQ in one format
after_training(float, "auto:4", base.images)                   # PTQ, a format a tensor
quantized(float, "Q2.3", base.images)                          # what QAT in one format begins with
best = fit(quantized(float, "auto:4", base.images), base, Recipe.fine_tuning(), teacher=float.teacher)
compiled(best, base.images)                                    # a Program with the integers that were trained
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.driver.compile_options import chosen_target, parse_format
from pefslc.driver.compiler import compile
from pefslc.driver.program import Program
from pefslc.fewshot.data.image_set import evenly
from pefslc.fewshot.networks.features import features_of, require_alive
from pefslc.fewshot.networks.format_space import CALIBRATION_IMAGES, FormatSpace, folded
from pefslc.fewshot.networks.images import require_images
from pefslc.fewshot.networks.training import Trained
from pefslc.numeric.choose_format import AutoFormat
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import Target
from pefslc.train.export import export
from pefslc.train.tensor_formats import TensorFormats, formats_of, uniform_formats
from pefslc.train.with_quantizers import QuantizedInput, with_quantizers

__all__ = [
    "after_training",
    "chosen_formats",
    "compiled",
    "export_onnx",
    "folded",
    "in_formats",
    "quantized",
]

_EXAMPLES = 8  # on which an exported file is compared with its network


def after_training(
    trained: Trained, fmt: str, images: NDArray[np.uint8], target: str | Target = "c", **target_options: object
) -> Program:
    """A float backbone, quantized and compiled: PTQ.

    fmt     "Q2.4": one format for all; "auto:4": one a tensor, from the values on `images`, as the target's accumulator
            allows
    images  uint8 [N, size, size, 3] of the base classes

    Raises CompileError.
    """
    _require_float(trained)
    require_images(images, trained.description)
    chosen = chosen_target(target, target_options)
    x = trained.description.normalized(evenly(images, CALIBRATION_IMAGES))
    network = folded(trained).network
    return compile(network, target=chosen, example=x[:_EXAMPLES], fmt=fmt, calibrate=x.numpy())


def chosen_formats(
    trained: Trained, fmt: str, images: NDArray[np.uint8], target: str | Target = "c", **target_options: object
) -> TensorFormats:
    """The formats of each tensor, by the names of the network's modules.

    fmt  "Q2.3": Qm.n everywhere, UQm.n after a ReLU; "auto:4": those that `after_training` gives, and for C, whose
         accumulators hold everything, with points settled by the features
    """
    _require_float(trained)
    auto, chosen = parse_format(fmt), chosen_target(target, target_options)
    if not isinstance(auto, AutoFormat):
        return uniform_formats(folded(trained).network, fmt)
    if isinstance(chosen, CTarget):
        space = FormatSpace(trained, auto.bits, images)
        return space.formats(space.settled(space.plan(auto.bits), images))
    program = after_training(trained, fmt, images, chosen)
    return formats_of(folded(trained).network, program.lowered.reference)


def quantized(
    trained: Trained, fmt: str, images: NDArray[np.uint8], target: str | Target = "c", **target_options: object
) -> Trained:
    """A float backbone with quantizers in its `chosen_formats`, for `fit`: QAT."""
    return in_formats(trained, chosen_formats(trained, fmt, images, target, **target_options))


def in_formats(trained: Trained, formats: TensorFormats) -> Trained:
    """A float backbone with quantizers of these formats. Its history begins anew."""
    _require_float(trained)
    return replace(trained, network=with_quantizers(folded(trained).network, formats).eval(), history=())


def compiled(
    trained: Trained, images: NDArray[np.uint8], target: str | Target = "c", **target_options: object
) -> Program:
    """The program of a quantized backbone: the integers that were trained.

    images  on some of which the exported file is compared with the network

    Raises CompileError, also for a network whose features are the same for all of `images`.
    """
    x = _examples(trained, images)
    return compile(trained.network, target=chosen_target(target, target_options), example=x)


def export_onnx(trained: Trained, images: NDArray[np.uint8], path: Path) -> None:
    """The file of a quantized backbone, which any command compiles. Equal networks give equal bytes.

    images  as for `compiled`; raises what that does
    """
    export(trained.network, _examples(trained, images), path)


def onnx_content(trained: Trained, images: NDArray[np.uint8]) -> bytes:
    """What `export_onnx` writes, for those who write more than this one file."""
    content: bytes = export(trained.network, _examples(trained, images)).SerializeToString(deterministic=True)
    return content


def _examples(trained: Trained, images: NDArray[np.uint8]) -> Tensor:
    """Inputs on which a file is compared with its network, which must be quantized and alive."""
    if not isinstance(trained.network, QuantizedInput):
        raise CompileError(
            Code.TRAINING,
            "the network is a float one",
            hint="after_training(...) compiles it, quantized(...) trains on",
        )
    require_images(images, trained.description)
    some = evenly(images, CALIBRATION_IMAGES)
    require_alive(features_of(trained.network, trained.description, some), "the quantized network")
    return trained.description.normalized(some[:_EXAMPLES])


def _require_float(trained: Trained) -> None:
    if isinstance(trained.network, QuantizedInput):
        raise CompileError(
            Code.TRAINING, "the network is quantized already", hint="begin with the float network that it was made from"
        )
