"""Compiled networks measured, and the tables of what was measured. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pefslc.driver.program import Program
from pefslc.fewshot.data.image_set import FewShotData
from pefslc.fewshot.episodes.accuracy_table import accuracy_table
from pefslc.fewshot.sweep.artifact import FeatureCodes, feature_codes
from pefslc.fewshot.sweep.measure import Head, Measured, centre_images, measure
from pefslc.fewshot.sweep.setting import Measurement
from pefslc.fewshot.system.pictures import Number

__all__ = ["evaluation_text", "measure_program"]


def measure_program(
    program: Program,
    mean: Sequence[Number] | Number,
    std: Sequence[Number] | Number,
    data: FewShotData,
    measurement: Measurement,
) -> tuple[Measured, FeatureCodes]:
    """(what the heads decide, the codes of the split's pictures), all by the integers of the artifact.

    Raises CompileError, DEAD_NETWORK among them.
    """
    images, (base, centre) = data.split(measurement.split), centre_images(data.base, measurement.centre_pictures)
    features, of_base = feature_codes(program, mean, std, (images.images, base))
    return measure(features, of_base, centre, images, measurement), features


def evaluation_text(results: Mapping[str, Measured], reference: str) -> str:
    """A table for each number of shots. Differences are to the network `reference`, a name among the results."""
    tables = []
    for shots in next(iter(results.values())).best_known:
        rows = {}
        for name, measured in results.items():
            rows[name] = measured.best_known[shots]
            if Head.INTEGER in measured.by_head:
                rows[f"{name}, float NCM"] = measured.by_head[Head.FLOAT][shots]
        tables.append(accuracy_table(rows, reference))
    return "\n\n".join(tables)
