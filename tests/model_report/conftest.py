"""Reports of the examples: compiled once, read by many."""

from __future__ import annotations

from pathlib import Path

import pytest

import pefslc
from pefslc.model_report.collect import collect_report
from pefslc.model_report.model import ModelReport

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="session")
def resnet() -> ModelReport:
    """ResNet-9 on the accelerator, with inputs."""
    name = "pefsl_resnet9_16_strided_bnfold_q2_3"
    program = pefslc.compile(EXAMPLES / f"{name}.onnx", target="tensil", arch="custom_perf")
    return collect_report(program, EXAMPLES / f"{name}.npz")


@pytest.fixture(scope="session")
def float_c() -> ModelReport:
    """A float model as C, with inputs."""
    program = pefslc.compile(EXAMPLES / "cnn_float.onnx", target="c", fmt="Q3.4")
    return collect_report(program, EXAMPLES / "cnn_float.npz")


@pytest.fixture(scope="session")
def plain_c() -> ModelReport:
    """A quantized model as C, without inputs."""
    return collect_report(pefslc.compile(EXAMPLES / "cnn_bnfold_q2_3.onnx", target="c"))
