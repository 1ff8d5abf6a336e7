"""Operators on sequences [N, C, L]: those on images of one row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower, normal
from pefslc.ir.interpret import run

SEQUENCE = (1, 3, 12)
NORM = ([0.5, -1, 0, 2], [0.25, 0, 1, -1], [0.5, 0, 0.1, 0.3], [1, 0.3, 2, 4])
SEQUENCES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "Conv": (
        {"strides": [2], "pads": [1, 2], "dilations": [2]},
        {"strides": [1, 2], "pads": [0, 1, 0, 2], "dilations": [1, 2]},
    ),
    "MaxPool": ({"kernel_shape": [3], "strides": [2]}, {"kernel_shape": [1, 3], "strides": [1, 2]}),
    "AveragePool": ({"kernel_shape": [4], "strides": [4]}, {"kernel_shape": [1, 4], "strides": [1, 4]}),
    "GlobalAveragePool": ({}, {}),
    "ReduceMean": ({"axes": [-1], "keepdims": 0}, {"axes": [2, 3], "keepdims": 0}),
}


@pytest.mark.parametrize("op", SEQUENCES)
def test_sequences_are_images_with_one_row(op: str, tmp_path: Path) -> None:
    """Batch normalization, activation and quantizer between two of them included."""
    data = normal((4, *SEQUENCE[1:])).astype(np.float32)
    outputs = []
    for rank, attributes in zip((3, 4), SEQUENCES[op], strict=True):
        m = ModelBuilder()
        shape = SEQUENCE if rank == 3 else (1, 3, 1, 12)
        rows = () if rank == 3 else (1,)
        x = m.quant(m.input(shape))
        x = m.node("Conv", x, m.weight(normal((4, 3, 3), 0.7).reshape(4, 3, *rows, 3), np.full((4, 1, *rows, 1), 0.2)))
        x = m.quant(
            m.node("Relu", m.node("BatchNormalization", x, *map(m.constant, NORM), epsilon=1e-5)), 0.25, 4, signed=0
        )
        inputs = [x, m.weight(normal((2, 4, 3), 0.7).reshape(2, 4, *rows, 3))] if op == "Conv" else [x]
        m.output(m.node(op, *inputs, **attributes))
        (found,) = run(lower(import_bytes(m, tmp_path)), data.reshape(4, *shape[1:])).values()
        outputs.append(found)
    assert outputs[0].ndim == (2 if op == "ReduceMean" else 3)
    np.testing.assert_array_equal(outputs[0].reshape(-1), outputs[1].reshape(-1))
