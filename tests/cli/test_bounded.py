"""A compile that is not exact says so everywhere, lists what differs, and is held to that list."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli

import pefslc as package
from builders import ModelBuilder

LISTED = "accumulator codes differ, by at most 1, in 3 of 4 channels: channel 0 at "


@pytest.fixture
def bounded(tmp_path: Path) -> Path:
    """A convolution whose BatchNorm is kept, with 8-bit codes: 16-bit words cannot hold its steps finely enough."""
    m = ModelBuilder()
    r = np.random.default_rng(0)
    y = m.node("Conv", m.quant(m.input([1, 3, 5, 5]), 1 / 16, 6), m.weight(r.normal(0, 0.4, (4, 3, 3, 3)), 1 / 16, 6))
    normal = (r.uniform(0.5, 2, 4), r.normal(0, 1, 4), r.normal(0, 1, 4), r.uniform(0.5, 2, 4))
    y = m.node("BatchNormalization", y, *(m.constant(p) for p in normal))
    m.output(m.quant(y, 1 / 32, 8), [1, 4, 3, 3])
    return m.save(tmp_path, "net.onnx")


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """The same behind a pool, with factors that differ hundreds of times: no correction is of all channels."""
    m = ModelBuilder()
    r = np.random.default_rng(0)
    y = m.node("Conv", m.quant(m.input([1, 3, 5, 5]), 1 / 16, 6), m.weight(r.normal(0, 0.4, (4, 3, 3, 3)), 1 / 16, 6))
    normal = (r.uniform(0.5, 2, 4) * [1, -0.003, 1, 1], r.normal(0, 1, 4), r.normal(0, 1, 4), r.uniform(0.5, 2, 4))
    y = m.node("MaxPool", y, kernel_shape=[2, 2])
    y = m.node("BatchNormalization", y, *(m.constant(p) for p in normal))
    m.output(m.quant(y, 1 / 32, 8), [1, 4, 2, 2])
    return m.save(tmp_path, "net.onnx")


def inputs(folder: Path) -> Path:
    path = folder / "x.npz"
    np.savez(path, x=np.random.default_rng(1).normal(0, 1, (40, 3, 5, 5)))
    return path


def test_summary_and_sidecar_say_bounded_and_list_the_codes(pefslc: Cli, bounded: Path, tmp_path: Path) -> None:
    result = pefslc(bounded, "--target", "tensil", "-o", tmp_path / "out", "--verify", inputs(tmp_path))
    assert (result.status, result.err) == (0, "")
    assert "every layer bounded" in result.out
    assert "bounded: conv" in result.out
    assert LISTED in result.out
    assert "outputs equal: tensil and its prediction" in result.out
    assert " (bounded)" in result.out
    sidecar = json.loads((tmp_path / "out" / "net.tensil.json").read_text())
    assert sidecar["details"]["exact"] is False
    (deviations,) = sidecar["layers"][0]["deviations"]
    ranges = [r for text in deviations["channels"].values() for r in text.split(", ")]
    assert len(deviations["channels"]) == 3
    assert all(r.endswith((" (+1)", " (-1)")) for r in ranges)
    assert len(ranges) <= deviations["differing"] < deviations["codes"] // 50


@pytest.mark.parametrize(
    ("slope", "weights", "channels"),
    [
        (0, [(32, 1), (32, 1), (-32, -1)], 3),
        (0, [(32, 1), (16, 1), (1, 0), (-32, -1)], 3),  # the sums of one are too few to meet a code that differs
        (0, [(1, 0), (0, 1), (32, 1)], 1),
        (0.9, [(32, 1), (16, 1), (1, 0), (-32, -1)], 3),  # two lines, added
    ],
)
def test_channels_with_one_staircase_are_listed_as_a_run_over_every_sum_shows(
    pefslc: Cli, tmp_path: Path, slope: float, weights: list[tuple[int, int]], channels: int
) -> None:
    """One image holds every pair of input codes, and so every sum; what differs of what it should be is the list."""
    source, fine = 0.853, 0.0802
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 32, 32]), source, 5)
    kernel = np.array(weights, dtype=np.float64)[:, :, None, None] * fine
    y = m.node("LeakyRelu", m.node("Conv", x, m.weight(kernel, fine, 7)), alpha=slope)
    m.output(m.quant(y, 0.25, 9), [1, len(weights), 32, 32])
    path = m.save(tmp_path, "net.onnx")

    program = package.compile(path, target="tensil")
    first, second = np.meshgrid(np.arange(-16, 16), np.arange(-16, 16), indexing="ij")
    (result,) = program.run(np.stack([first, second])[None] * source).values()
    scale, alpha = as_float32(source) * as_float32(fine) * 4, as_float32(slope)
    true: dict[int, dict[int, int]] = {}
    for c, weight in enumerate(weights):
        sums = weight[0] * first + weight[1] * second
        for total, code in zip(sums.flat, (result[0, c] * 4).astype(int).flat, strict=True):
            value = scale * int(total) * (1 if total >= 0 else alpha)
            if code != (wanted := min(max(round(value), -256), 255)):
                true.setdefault(c, {})[int(total)] = int(code) - wanted
    assert len(true) == channels

    text = pefslc(path, "--target", "tensil", "-o", tmp_path / "out").out
    assert f"in {channels} of {len(weights)} channels: " in text
    (listed,) = json.loads((tmp_path / "out" / "net.tensil.json").read_text())["layers"][0]["deviations"]
    assert {int(c): by_code(ranges) for c, ranges in listed["channels"].items()} == true
    assert listed["differing"] == sum(map(len, true.values()))
    assert program.layers[0].to_json()["deviations"] == [listed]


def as_float32(number: float) -> Fraction:
    return Fraction(float(np.float32(number)))


def by_code(ranges: str) -> dict[int, int]:
    """{40: 1, -12: -1, -11: -1} of "40 (+1), -12..-11 (-1)"."""
    found = {}
    for text in ranges.split(", "):
        span, by = text.rstrip(")").split(" (")
        first, *last = map(int, span.split(".."))
        found |= dict.fromkeys(range(first, (last or [first])[0] + 1), int(by))
    return found


def test_require_exact_refuses_with_the_list(pefslc: Cli, apart: Path, tmp_path: Path) -> None:
    for command in (("compile",), ("check",)):
        out = ("-o", tmp_path / "out") if command == ("compile",) else ()
        result = pefslc(*command, apart, "--target", "tensil", "--require-exact", *out)
        assert result.status == 1
        assert "error[PEF0508]: not exact: " in result.err
        assert LISTED in result.err
    assert not (tmp_path / "out").exists()
    with pytest.raises(package.CompileError, match="not exact"):
        package.compile(apart, target="tensil", require_exact=True)


def test_require_exact_pays_for_what_would_be_bounded(bounded: Path) -> None:
    program = package.compile(bounded, target="tensil", require_exact=True)
    assert program.exact
    assert not package.compile(bounded, target="tensil").exact


def test_require_exact_accepts_what_is_exact(bounded: Path) -> None:
    assert package.compile(bounded, target="c", require_exact=True).exact


def test_require_exact_refuses_sums_that_may_overflow(tmp_path: Path) -> None:
    m = ModelBuilder()
    y = m.node("Conv", m.quant(m.input([1, 64, 1, 1]), 1.0, 8), m.weight(np.full((1, 64, 1, 1), 7.0), 1.0, 4))
    m.output(m.quant(y, 64.0, 8), [1, 1, 1, 1])
    with pytest.raises(package.CompileError, match="sums may overflow"):
        package.compile(m.save(tmp_path), target="tensil", allow_overflow=True, require_exact=True)


def test_expected_outputs_are_held_to_the_model_not_to_what_is_bounded(
    pefslc: Cli, bounded: Path, tmp_path: Path
) -> None:
    x = np.load(inputs(tmp_path))["x"]
    (name,), y = ((o.name for o in package.load(bounded).outputs), package.load(bounded).run(x))
    right = y[name].astype(np.float32)
    wrong = right.copy()
    wrong[7, 1, 2, 0] += 1 / 32
    for values, status in ((right, 0), (wrong, 1)):
        np.savez(tmp_path / "xy.npz", x=x, **{name: values})
        result = pefslc(bounded, "--target", "tensil", "-o", tmp_path / "out", "--verify", tmp_path / "xy.npz")
        assert result.status == status
        printed = result.out + result.err
        assert (f"1 of 1440 differ: interpreter and '{name}'; first at [7, 1, 2, 0]: " in printed) == bool(status)


def test_verification_measures_and_holds_the_files_to_the_prediction(bounded: Path, tmp_path: Path) -> None:
    program = package.compile(bounded, target="tensil")
    assert not program.exact
    assert repr(program) == "<Program 'net' for tensil: 1 layer, bounded>"
    found = program.verify(inputs(tmp_path))
    assert found.as_predicted
    assert not found.equal
    found.require()
    (measured,) = found.measured
    (differing,) = [c.differing for c in found.comparisons if c.compared == "tensil and interpreter"]
    assert (measured.differing, measured.count) == (differing, 40 * 4 * 3 * 3)
    # Another prediction than what the files compute: the model itself.
    wrong = replace(program, emission=replace(program.emission, computed=program.graph))
    with pytest.raises(package.CompileError, match="tensil and its prediction"):
        wrong.verify(inputs(tmp_path)).require()


def test_require_exact_names_native_arithmetic() -> None:
    model = Path(__file__).parents[2] / "examples" / "cnn_float.onnx"
    with pytest.raises(package.CompileError, match=r"Q8\.8 runs in the target's native arithmetic") as refused:
        package.compile(model, target="tensil", fmt="Q8.8", require_exact=True)
    assert "overflow" not in str(refused.value)


def test_a_difference_that_an_accepted_overflow_makes_is_said_to_be_one(tmp_path: Path) -> None:
    m = ModelBuilder()
    y = m.node("Conv", m.quant(m.input([1, 64, 1, 1]), 1.0, 8), m.weight(np.full((1, 64, 1, 1), 7.0), 1.0, 4))
    m.output(m.quant(y, 64.0, 12), [1, 1, 1, 1])
    program = package.compile(m.save(tmp_path), target="tensil", allow_overflow=True)
    assert program.verify({"x": np.zeros((1, 64, 1, 1))}).equal
    with pytest.raises(package.CompileError, match="compile without --allow-overflow"):
        program.verify({"x": np.full((1, 64, 1, 1), 127.0)}).require()
