"""A compiled backbone as what is measured: pictures to feature codes by its artifact, its bytes, cycles and bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import Json, JsonObject, load_sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.driver.compiler import compile
from pefslc.driver.program import Program
from pefslc.fewshot.system.backbone import Backbone
from pefslc.fewshot.system.pictures import Number, PictureTable

__all__ = ["FeatureCodes", "board_costs", "c_costs", "feature_codes"]

_ROWS = 512  # pictures at once: bounds the memory


@dataclass(frozen=True, slots=True, eq=False)
class FeatureCodes:
    """codes int64 [N, D] as the artifact computes them; value = scale * code, one scale for all features."""

    codes: NDArray[np.int64]
    scale: float

    @property
    def values(self) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self.codes.astype(np.float64)
        values *= self.scale
        return values


def feature_codes(
    program: Program,
    mean: Sequence[Number] | Number,
    std: Sequence[Number] | Number,
    sets: Sequence[NDArray[np.uint8]],
) -> tuple[FeatureCodes, ...]:
    """The features of sets of pictures uint8 [N, H, W, 3]: bytes to input codes by table, the rest by the artifact.

    mean, std  what the network was trained with, in units of img / 255

    Raises CompileError for a network that is no backbone.
    """
    ends = Backbone.of(program.sidecar)
    size = sets[0].shape[1:3]
    if (ends.height, ends.width) != size:
        raise CompileError(
            Code.SYSTEM_BACKBONE,
            f"{quote(program.name)} takes pictures of {ends.height} x {ends.width} pixels, the data have "
            f"{size[0]} x {size[1]}",
            hint="read the data in its size (--size)",
        )
    table, scale = PictureTable.of(ends.quantizer, mean, std), float(ends.scale)
    with TemporaryDirectory(prefix="pefslc-") as folder:
        *_, sidecar = program.save(folder)
        runner = program.target.runner(Path(folder), load_sidecar(sidecar))
        found = []
        for images in sets:
            parts = [
                ends.features(runner, table(images[first : first + _ROWS])) for first in range(0, len(images), _ROWS)
            ]
            found.append(FeatureCodes(np.concatenate(parts), scale))
    return tuple(found)


def c_costs(program: Program) -> JsonObject:
    """Of the C: bytes of constants and of working memory, multiply-accumulates, bits of the widest sum, exactness."""
    costs = program.costs
    assert costs is not None, "the C target says what its programs cost"
    bits = [row.accumulator_bits for row in program.layers if row.accumulator_bits is not None]
    return {
        "constant_bytes": sum(costs.total.bytes.values()),
        "arena_bytes": sum(memory.available for memory in costs.memories),
        "macs": costs.total.macs,
        "accumulator_bits": max(bits, default=0),
        "exact": program.exact,
    }


def board_costs(network: Path, boards: Sequence[str]) -> JsonObject:
    """Of each Tensil architecture: modelled cycles of one picture, or why the network cannot run there."""
    found: dict[str, Json] = {}
    for board in boards:
        try:
            program = compile(network, target="tensil", arch=board, batch=1)
        except CompileError as e:
            found[board] = {"modelled_cycles": None, "exact": None, "reason": e.problems[0].message}
            continue
        costs = program.costs
        cycles = None if costs is None else costs.total.total_cycles
        found[board] = {"modelled_cycles": cycles, "exact": program.exact, "reason": ""}
    return found
