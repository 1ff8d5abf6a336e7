"""The machine's timing, in cycles: the one place for what an instruction takes, what it waits for, and what it hides.

Measured on the RTL of custom_perf: A = 12, 64-bit AXI. A comment names the experiment, as rtl_measurements.txt in
tests/data/tcu does, or rtl_hazards.txt where it speaks of right and wrong; n is the number of vectors. "Fitted" is what
no experiment shows alone. Nothing else was measured: other array sizes are taken to scale as said here.

`cycles` models whole programs with it, `hazards` and `emitter` keep accumulations apart, and whatever chooses between
two ways of computing the same prices them with it.
"""

from __future__ import annotations

from pefslc.targets.tensil.machine.architecture import Architecture

__all__ = [
    "READ_LATENCY_CYCLES",
    "SIMD_CYCLES",
    "SIMD_READ_CYCLES",
    "SIMD_REGISTER_CYCLES",
    "SIMD_WRITE_CYCLES",
    "STORE_CYCLES",
    "clearing_rows",
    "drain_cycles",
    "healing_rows",
    "load_cycles",
    "matmul_lead_cycles",
    "read_cycles",
    "read_overhead_cycles",
    "simd_in_drain_cycles",
    "simd_queue_length",
    "streaming_cycles",
    "tile_cycles",
    "vector_beats",
    "write_cycles",
]

_MEASURED_ON = 12  # lanes of the array

# --- DRAM ------------------------------------------------------------------------------------------------------------

READ_LATENCY_CYCLES = 20  # of the DRAM behind the measured RTL
_READ_CYCLES = 6  # "DRAM0->local n": 29, 74, 218 for 1, 16, 64, which is 3 n + 20 + 6
_BURST_READ_CYCLES = 8.33  # "DRAM0->local n=64 stride 2 on DRAM": 533; a burst a vector, and the latency once more
_BURST_WRITE_CYCLES = 4.67  # "local->DRAM0 n=1": 4.67; "n=64 stride 2 on DRAM": 64 of that


def vector_beats(architecture: Architecture) -> int:
    """Cycles that a vector takes on the bus to a DRAM: it is packed into whole words of the bus."""
    return -(-architecture.vector_size_bytes // architecture.axi_bytes)


def streaming_cycles(architecture: Architecture, vectors: int) -> int:
    """Of a DRAM read, those that grow with it."""
    return vectors * vector_beats(architecture)


def read_overhead_cycles(latency: int = READ_LATENCY_CYCLES) -> int:
    """Of a DRAM read, those that do not grow with it."""
    return latency + _READ_CYCLES


def read_cycles(beats: int, vectors: int, latency: int, *, strided: bool) -> float:
    """A move from a DRAM, of vectors of so many beats. Reads that follow each other do not overlap."""
    if strided:
        return max(beats, _BURST_READ_CYCLES) * vectors + latency
    return beats * vectors + read_overhead_cycles(latency)


def write_cycles(beats: int, vectors: int, *, strided: bool) -> float:
    """A move to a DRAM."""
    if strided:
        return max(beats, _BURST_WRITE_CYCLES) * vectors
    return max(beats * vectors, _BURST_WRITE_CYCLES)


# --- SIMD ------------------------------------------------------------------------------------------------------------

SIMD_CYCLES = 4  # "SIMD relu RW in place", "SIMD RW accumulate"
SIMD_READ_CYCLES = 2  # "SIMD read -> register"
SIMD_WRITE_CYCLES = 1.5  # "SIMD register -> write (move r1)"
SIMD_REGISTER_CYCLES = 1  # from register to register; fitted


def simd_in_drain_cycles(array_size: int) -> int:
    """Of SIMD, those that are free while the array drains between two tiles.

    Three operations of the measured array: "MM 64 + SIMD x3 + LW12 LWz1" is as "x1". That is half of its drain, and so
    it is taken to be of others.
    """
    return drain_cycles(array_size) // 2


def simd_queue_length(array_size: int) -> int:
    """Instructions for the accumulators that the decoder may run ahead of. Fitted: "SIMD relu x64 + DRAM1->local"."""
    return 2 * array_size + 2


# --- accumulators ----------------------------------------------------------------------------------------------------

# acc->local and local->acc take a cycle a vector, and wait until the accumulators are idle: for queued SIMD and for the
# drain of the array. "MM n + LA" 64 m=15: 102. The first waits a cycle less, and so does the second where it does not
# accumulate: "m=4: 28.0", "+m=4: 29.0".
STORE_CYCLES = 2  # what acc->local takes beside: "acc->local n": 3, 18, 66, 258 for 1, 16, 64, 256


def drain_cycles(array_size: int) -> int:
    """From when a MatMul's last vector enters the array to when its sum is in the accumulators.

    "LoadWeights 13 + MatMul acc n": n + 13 + 24; "accumulate MatMul x4 same address, n NoOps between": wrong below 24.
    """
    return 2 * array_size


def healing_rows(array_size: int) -> int:
    """After a MatMul, a LoadWeights of so many local rows waits until its sums have landed.

    "(LoadWeights n, MatMul acc n=1) x6": right with 5, wrong with 2. Larger arrays are held to the same share.
    """
    return max(5, -(-5 * array_size // _MEASURED_ON))


def clearing_rows(array_size: int) -> int:
    """A LoadWeights zeroes of so many rows keeps two MatMuls as far apart.

    "(LoadWeights zeroes n, MatMul acc n=1) x6": right with 13, wrong with 12.
    """
    return array_size + 1


# --- the array -------------------------------------------------------------------------------------------------------


def load_cycles(rows: int) -> int:
    """A LoadWeights of local rows, when the array has drained. "MM 16 + (LW1 + MMz+ 16) x1": few rows take one less."""
    return rows - 1 if rows < 4 else rows


def matmul_lead_cycles(array_size: int) -> int:
    """How long before its last sum is in the accumulators, a MatMul lets the decoder go on. Fitted: programs."""
    return 4 * array_size - 1


def tile_cycles(array_size: int) -> int:
    """Loading a tile: the drain of the array before, and its rows. "LoadWeights 13 + MatMul acc n" without its n."""
    return drain_cycles(array_size) + array_size + 1
