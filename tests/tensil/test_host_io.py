"""`<name>_io.py`, the host's side on a board: what it takes, and what it refuses by name."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensil_support import emit

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.interpret import run
from pefslc.numeric.quantize import quantize_array
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.targets.tensil.host_io import host_io_module
from pefslc.targets.tensil.machine.architecture import load_architecture
from quantizers import dyadic_steps, floats, quantizers

BOARD = load_architecture("pynqz1")

HostFunction = Callable[[object], dict[str, np.ndarray]]


def host_module(folder: Path, *, outputs: int = 1) -> dict[str, HostFunction]:
    """Of a model input [1, 3, 4, 4] -> Conv -> [1, 2, 2, 2], which may be two outputs."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, 4, 4], "input"), 0.125, 4)
    for _ in range(outputs):
        m.output(m.node("Conv", x, m.weight(np.ones((2, 3, 3, 3)), 0.25, 3)), [1, 2, 2, 2])
    emission = emit(lower(import_bytes(m, folder)), BOARD, folder)
    io: dict[str, HostFunction] = {}
    exec(next(c for n, c in emission.files.items() if n.endswith("_io.py")), io)
    return io


IMAGE = np.linspace(-1, 1, 48).reshape(3, 4, 4)


def test_the_host_module_takes_an_array_a_dict_or_an_npz_file(tmp_path: Path) -> None:
    io = host_module(tmp_path)
    words = io["to_driver"](IMAGE)["input"]
    np.savez(tmp_path / "x.npz", input=IMAGE[None].astype(np.float32))
    with np.load(tmp_path / "x.npz") as arrays:
        for given in (
            IMAGE[None],
            IMAGE.tolist(),
            {"input": IMAGE},
            arrays,
            MappingProxyType({"input": IMAGE}),
            {"x": IMAGE},
        ):
            assert np.array_equal(io["to_driver"](given)["input"], words)
    name = io["OUTPUTS"][0]["name"]  # type: ignore[index]
    results = np.arange(32.0) / 2**8
    for given in (results, {name: results}, MappingProxyType({name: results.reshape(4, 8)})):
        assert np.array_equal(io["from_driver"](given)[name], io["from_driver"]({name: results})[name])
    assert io["from_driver"](results)[name].shape == (1, 2, 2, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": IMAGE.transpose(1, 2, 0)}, r"input 'input' has shape \(4, 4, 3\), the model wants \(1, 3, 4, 4\)"),
        ({"input": IMAGE.reshape(-1)}, r"has shape \(48,\), the model wants \(1, 3, 4, 4\)"),
        ({"input": IMAGE[None].transpose(0, 2, 3, 1)}, r"the model wants \(1, 3, 4, 4\)"),
        ({"input": np.where(IMAGE > 0, np.nan, IMAGE)}, "input 'input' holds NaN or infinity"),
        ({"input": IMAGE - np.inf}, "input 'input' holds NaN or infinity"),
        ({"input": IMAGE * 1j}, "input 'input' holds complex128, not numbers"),
        ({"input": IMAGE > 0}, "input 'input' holds bool, not numbers"),
        ({"input": "x.npz"}, "input 'input' holds <U5, not numbers"),
        ({"input": None}, "input 'input' holds object, not numbers"),
        ({"input": [[1], [1, 2]]}, "input 'input' is no array: "),
        ({"image": IMAGE}, "no array for input 'input'; given: 'image'"),
        ({}, "no array for input 'input'; given: none"),
    ],
)
def test_the_host_module_refuses_what_is_not_the_models_input(given: object, message: str, tmp_path: Path) -> None:
    """An image with its channels last is the likeliest mistake on a board."""
    with pytest.raises(ValueError, match=message):
        host_module(tmp_path)["to_driver"](given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(5), "output '{0}' has 5 numbers, the driver returns 32"),
        (np.zeros(64), "output '{0}' has 64 numbers, the driver returns 32"),
        (np.full(32, np.nan), "output '{0}' holds NaN, infinity or numbers that no word holds"),
        (np.full(32, -np.inf), "output '{0}' holds NaN, infinity or numbers that no word holds"),
        (np.full(32, 1e308), "output '{0}' holds NaN, infinity or numbers that no word holds"),
        (np.zeros(32, complex), "output '{0}' holds complex128, not numbers"),
        ({}, "no array for output '{0}'; given: none"),
        ({"y": np.zeros(32)}, "no array for output '{0}'; given: 'y'"),
    ],
)
def test_the_host_module_refuses_what_no_driver_returns(given: object, message: str, tmp_path: Path) -> None:
    io = host_module(tmp_path)
    with pytest.raises(ValueError, match=message.format(io["OUTPUTS"][0]["name"])):  # type: ignore[index]
        io["from_driver"](given)


def test_the_host_module_wants_arrays_of_several_outputs_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model has 2 outputs: give a dict of arrays by their names, '"):
        host_module(tmp_path, outputs=2)["from_driver"](np.zeros(32))


def test_codes_are_the_drivers_words_as_their_values_are(tmp_path: Path) -> None:
    io = host_module(tmp_path)
    codes = np.arange(48).reshape(1, 3, 4, 4) % 16 - 8
    assert np.array_equal(io["codes_to_driver"]({"input": codes})["input"], io["to_driver"](codes * 0.125)["input"])
    for wrong in (codes + 1, codes - 1, codes + 0.5, codes * np.nan):
        with pytest.raises(ValueError, match="input 'input' holds what are no codes, integers in -8 to 7"):
            io["codes_to_driver"]({"input": wrong})
    with pytest.raises(ValueError, match=r"the model wants \(1, 3, 4, 4\)"):
        io["codes_to_driver"]({"input": codes.reshape(-1)})


def test_inputs_beyond_the_format_saturate_and_that_is_said(tmp_path: Path) -> None:
    io = host_module(tmp_path)
    with pytest.warns(UserWarning, match="input 'input': 100 % of its values clip") as caught:
        words = io["to_driver"](np.full((3, 4, 4), 1e308))
    assert len(caught) == 1  # and none of NumPy's
    assert set(words["input"]) == {0.0, 0.875}  # 0 in the lane without a channel


@pytest.mark.parametrize(
    ("zero_point", "rounding", "x", "code"),
    [(5, "FLOOR", np.float32(-1e-20), 4), (128, "ROUND", np.nextafter(1.5 / 8, 0), 129)],
)
def test_the_host_rounds_once_with_a_zero_point(
    zero_point: int, rounding: str, x: np.floating, code: int, tmp_path: Path
) -> None:
    """x / scale + zero point is no float64, and the float64 next to it has another code."""
    m = ModelBuilder()
    quantized = m.quant(m.input([1, 1, 1, 1]), 0.125, 8, signed=0, zero_point=zero_point, rounding=rounding)
    m.output(m.node("Conv", quantized, m.weight(np.ones((1, 1, 1, 1)), 1, 4)))
    graph = import_bytes(m, tmp_path)
    image, value = np.full((1, 1, 1, 1), x), (code - zero_point) / 8
    lowered = lower(graph)
    assert [v.item() for v in run(graph, image).values()] == [value]
    assert [v.item() for v in run(lowered, image).values()] == [value]
    io: dict[str, HostFunction] = {}
    exec(next(c for n, c in emit(lowered, BOARD, tmp_path).files.items() if n.endswith("_io.py")), io)
    codes = io["quantize"](io["INPUTS"][0], image.astype(np.float64))  # type: ignore[index, call-arg]
    assert codes.reshape(-1).tolist() == [code]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def host_quantize(tmp_path_factory: pytest.TempPathFactory) -> Callable[[object, object], np.ndarray]:
    """The emitted module's own quantizer."""
    return host_module(tmp_path_factory.mktemp("io"))["quantize"]  # type: ignore[return-value]


@settings(max_examples=150)
@given(quantizer=quantizers(steps=dyadic_steps), data=st.data())
def test_the_host_module_quantizes_as_we_do(
    quantizer: Quantizer, data: st.DataObject, host_quantize: Callable[[object, object], np.ndarray]
) -> None:
    kind, values = data.draw(floats(quantizer))
    x = np.array(values, dtype=kind).reshape(1, 2, 2, -1).astype(np.float64)
    assert np.array_equal(host_quantize(_record(quantizer), x), quantize_array(quantizer, x, 1))


@given(parts=st.lists(quantizers(RoundingMode.FLOOR, dyadic_steps), min_size=3, max_size=3), data=st.data())
def test_the_host_module_quantizes_each_channel_as_we_do(
    parts: list[Quantizer], data: st.DataObject, host_quantize: Callable[[object, object], np.ndarray]
) -> None:
    steps = [part.quantization.scale.step for part in parts]
    quantizer = replace(parts[0], quantization=replace(parts[0].quantization, scale=Scale.of(steps)))
    x = np.array([[data.draw(floats(part, kind=np.float64, size=4))[1] for part in parts]])
    assert np.array_equal(host_quantize(_record(quantizer), x), quantize_array(quantizer, x, 1))


def _record(quantizer: Quantizer) -> dict[str, object]:
    """What the emitted module knows of a quantizer, with words that hold every code."""
    q = quantizer.quantization
    return {
        "scale": [list(step.as_integer_ratio()) for step in q.scale.steps],
        "zero_point": q.zero_point,
        "low": q.low,
        "high": q.high,
        "rounding": quantizer.rounding.value,
        "adds_zero_point_last": quantizer.adds_zero_point_last,
    }


def test_the_host_module_is_python_3_6(tmp_path: Path) -> None:
    """Boards have old ones."""
    emission = emit(lower(import_bytes(_small_model(), tmp_path)), BOARD, tmp_path)
    text = next(c for n, c in emission.files.items() if n.endswith("_io.py"))
    ast.parse(text, feature_version=(3, 6))


def _small_model() -> ModelBuilder:
    m = ModelBuilder()
    m.output(m.node("Conv", m.quant(m.input([1, 1, 1, 1])), m.weight(np.ones((1, 1, 1, 1)))))
    return m


@pytest.mark.parametrize(
    ("model", "module"),
    [("resnet9-q2.3", "resnet9_q2_3_io"), ("1abc", "model_1abc_io"), ("a.b.c", "a_b_c_io"), ("net", "net_io")],
)
def test_the_host_module_can_be_imported(model: str, module: str) -> None:
    assert host_io_module(model) == module
    assert module.isidentifier()
