"""The whole ResNet, MobileNetV2 and UNet as ONNX Runtime's quantize_static writes them: exact, in all its formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from static_quantization import NETWORKS, StaticNetwork

import pefslc
from builders import import_bytes, lower
from pefslc.ir.interpret import run

SETTINGS: dict[str, dict[str, object]] = {
    "qdq": {},
    "qdq_tensor": {"per_channel": False},
    "qdq_int8": {"kind": np.int8},
    "qdq_symmetric": {"kind": np.int8, "symmetric": True},
    "qdq_unsigned": {"weights": np.uint8, "per_channel": False},
    "qoperator": {"qdq": False},
    "qoperator_unsigned": {"qdq": False, "weights": np.uint8, "per_channel": False},
    "qoperator_int8": {"qdq": False, "kind": np.int8},
}
CASES = [(n, s) for n in NETWORKS for s in SETTINGS if n != "unet" or s.startswith("qdq")]


def network(name: str, setting: str, folder: Path) -> tuple[StaticNetwork, np.ndarray, np.ndarray]:
    """The network in `folder`, its input, its exact output."""
    m = StaticNetwork(**SETTINGS[setting])  # type: ignore[arg-type]
    x = np.random.default_rng(4).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
    y = NETWORKS[name](m, m.start(x))
    m.end(y)
    m.save(folder)
    assert len(np.unique(y.codes)) > 3, "a test of hardly any codes"
    return m, x, y.values.astype(np.float64)


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_a_network_of_quantize_static_is_read_exactly(name: str, setting: str, tmp_path: Path) -> None:
    m, x, expected = network(name, setting, tmp_path)
    quantized = import_bytes(m.build(), tmp_path)
    for level in (quantized, lower(quantized)):
        (got,) = run(level, x).values()
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("setting", ["qdq", "qoperator_unsigned"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "unet_resize"])
def test_its_compiled_c_computes_the_same(name: str, setting: str, tmp_path: Path) -> None:
    _, x, expected = network(name, setting, tmp_path)
    program = pefslc.compile(tmp_path / "model.onnx", target="c", require_exact=True)
    (got,) = program.run(x).values()
    np.testing.assert_array_equal(got, expected)
