"""Random architectures, and the kinds of random networks that they are tried with."""

from __future__ import annotations

import numpy as np

from builders import Feature
from pefslc.targets.tensil.machine.architecture import Architecture, DataType

TYPES = tuple(DataType[name] for name in ("FP8BP4", "FP16BP8", "FP18BP10", "FP32BP16"))
SMALL = Feature(batch_norm=False, leaky=False, most_bits=4)
NARROW = Feature(batch_norm=False, leaky=False, float_bias=False, average_pool=False, most_bits=2)
UPWARDS = Feature(batch_norm=False, leaky=False, float_bias=False, most_bits=2, transposed=True, most_pixels=6)
WIDE = Feature(batch_norm=False, leaky=False, most_bits=4, most_channels=80, most_pixels=14)


def sane_architecture(seed: int) -> Architecture:
    """Whatever a board may be: memories from a few hundred vectors, arrays of 2 to 64."""
    r = np.random.default_rng([seed, 1])
    return Architecture(
        data_type=TYPES[seed % len(TYPES)],
        array_size=int(np.exp2(r.uniform(1, 6))),
        dram0_depth=int(np.exp2(r.uniform(9, 16))),
        dram1_depth=int(np.exp2(r.uniform(9, 18))),
        local_depth=int(np.exp2(r.uniform(7.7, 13))),
        accumulator_depth=int(np.exp2(r.uniform(7, 12))),
        simd_registers_depth=int(r.integers(1, 4)),
        stride0_depth=int(r.integers(1, 9)),
        stride1_depth=int(r.integers(1, 9)),
        number_of_threads=1,
        thread_queue_depth=8,
    )


def tiny_architecture(seed: int) -> Architecture:
    """Memories so small that tensors spill, and few strides, so that runs split."""
    r = np.random.default_rng(seed)
    return Architecture(
        data_type=TYPES[r.integers(len(TYPES))],
        array_size=int(r.integers(2, 17)),
        dram0_depth=int(np.exp2(r.uniform(7, 13))),
        dram1_depth=int(np.exp2(r.uniform(7, 16))),
        local_depth=int(r.integers(20, 700)),
        accumulator_depth=int(np.exp2(r.uniform(0, 8.2))),
        simd_registers_depth=int(r.integers(1, 4)),
        stride0_depth=int(r.integers(1, 9)),
        stride1_depth=int(r.integers(1, 9)),
        number_of_threads=1,
        thread_queue_depth=8,
    )
