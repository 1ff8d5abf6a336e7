"""Fixtures of the Tensil tests: boards, and a small machine on which every memory can be looked at."""

from __future__ import annotations

import dataclasses

import pytest

from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture


@pytest.fixture(scope="session")
def custom_perf() -> Architecture:
    return load_architecture("custom_perf")


@pytest.fixture(scope="session")
def small() -> Architecture:
    """FP16BP8 with 4 lanes, shallow memories and two SIMD registers."""
    return dataclasses.replace(
        load_architecture("cmoda7"),
        dram0_depth=64,
        dram1_depth=64,
        local_depth=64,
        accumulator_depth=32,
        simd_registers_depth=2,
    )
