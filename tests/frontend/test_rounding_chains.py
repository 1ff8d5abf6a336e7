"""Quantizers in pieces, node for node against their definitions in exact rationals."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower, normal, refusal_of
from oracle import evaluate_model
from pefslc.ir.interpret import run
from pefslc.ir.quantized import Quantize

Build = Callable[[ModelBuilder, str], str]
SHAPE = (1, 2, 4, 3)


def step(m: ModelBuilder, op: str, x: str, *numbers: object) -> str:
    return m.node(op, x, *map(m.constant, numbers))


def estimated(m: ModelBuilder, x: str, y: str) -> str:
    """x + (y - x), as a straight-through estimator is traced."""
    return m.node("Add", x, m.node("Sub", y, x))


def scaled(m: ModelBuilder, x: str) -> str:
    codes = step(m, "Clip", m.node("Round", step(m, "Div", x, 0.125)), -8, 7)
    return step(m, "Mul", codes, 0.125)


def by_the_reciprocal(m: ModelBuilder, x: str) -> str:
    return step(m, "Div", m.node("Round", step(m, "Clip", step(m, "Mul", x, 16), -128, 127)), 16)


def clipped_first(m: ModelBuilder, x: str) -> str:
    """DoReFa's: 15 is no power of two, so the step is a fraction."""
    limited = step(m, "Clip", x, 0, 1)
    return estimated(m, limited, step(m, "Div", m.node("Round", step(m, "Mul", limited, 15)), 15))


def rounded_through(m: ModelBuilder, x: str) -> str:
    """LSQ's: the estimator lies around the rounding alone."""
    codes = step(m, "Clip", step(m, "Div", x, 0.11), -8, 7)
    return step(m, "Mul", estimated(m, codes, m.node("Round", codes)), 0.11)


def with_zero_point_behind(m: ModelBuilder, x: str) -> str:
    codes = step(m, "Clip", step(m, "Add", m.node("Round", step(m, "Div", x, 0.125)), 13), 0, 31)
    return step(m, "Mul", step(m, "Sub", codes, 13), 0.125)


def with_zero_point_before(m: ModelBuilder, x: str) -> str:
    """The sum is rounded: ties go to another side than with the zero point behind, where that is odd."""
    codes = step(m, "Clip", m.node("Round", step(m, "Add", step(m, "Div", x, 0.125), 13)), 0, 31)
    return step(m, "Mul", step(m, "Sub", codes, 13), 0.125)


def floor_of_a_half_more(m: ModelBuilder, x: str) -> str:
    limited = step(m, "Clip", x, -2, 1.9375)
    return step(m, "Mul", m.node("Floor", step(m, "Add", step(m, "Div", limited, 0.0625), 0.5)), 0.0625)


def clipped_as_values(m: ModelBuilder, x: str) -> str:
    return step(m, "Clip", step(m, "Div", m.node("Floor", step(m, "Mul", x, 16)), 16), -2, 1.9375)


def odd_limits(m: ModelBuilder, x: str) -> str:
    """No format has the codes -3 to 9."""
    return step(m, "Mul", step(m, "Clip", m.node("Ceil", step(m, "Div", x, 0.25)), -3, 9), 0.25)


def negated_in_front(m: ModelBuilder, x: str) -> str:
    return step(m, "Mul", step(m, "Clip", m.node("Round", step(m, "Mul", x, -8)), -16, 15), 0.125)


ACTIVATIONS: dict[str, Build] = {
    f.__name__.replace("_", " "): f
    for f in (
        scaled, by_the_reciprocal, clipped_first, rounded_through, with_zero_point_behind, with_zero_point_before,
        floor_of_a_half_more, clipped_as_values, odd_limits, negated_in_front,
    )
}  # fmt: skip


def ties() -> np.ndarray:
    """Every multiple of 1/32 in reach, among them the ties of steps 1/8 and 1/16."""
    return (np.arange(-36, 36) / 16 + 1 / 32 * (np.arange(72) % 2)).reshape(3, 2, 4, 3)


def check_same(got: np.ndarray, want: np.ndarray) -> None:
    """Fifteenths are no floats: on the grid of all these rationals, the values are counted."""
    grid = math.lcm(*(value.denominator for value in want.reshape(-1)))
    assert grid < 1 << 40
    odd = grid // (grid & -grid)
    np.testing.assert_array_equal(got if odd == 1 else np.rint(got * grid), want if odd == 1 else want * grid)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_quantizer_in_pieces_between_layers(name: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.node("Conv", m.quant(m.input(SHAPE), 2**-5, 8), m.weight(np.eye(2).reshape(2, 2, 1, 1), 1, 2))
    m.output(m.node("Conv", ACTIVATIONS[name](m, x), m.weight(normal((3, 2, 2, 2)))))
    quantized = import_bytes(m, tmp_path)
    integer = lower(quantized)
    for data in ties()[:, None]:
        want = evaluate_model(m.build(), data)
        for graph in (quantized, integer):
            check_same(next(iter(run(graph, data).values())), want)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_quantizer_in_pieces_opens_a_network(name: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Conv", ACTIVATIONS[name](m, m.input(SHAPE)), m.weight(normal((3, 2, 2, 2)))))
    integer = lower(import_bytes(m, tmp_path))
    for data in ties()[:, None]:
        want = evaluate_model(m.build(), data)
        check_same(next(iter(run(integer, data).values())), want)


def power_of_two_weight(m: ModelBuilder, w: str) -> str:
    return step(m, "Mul", step(m, "Clip", m.node("Round", step(m, "Div", w, 0.125)), -4, 3), 0.125)


def estimated_weight(m: ModelBuilder, w: str) -> str:
    return estimated(m, w, step(m, "Mul", m.node("Round", step(m, "Div", w, 0.25)), 0.25))


def weight_with_a_scale_per_output(m: ModelBuilder, w: str) -> str:
    scales = np.float32([0.25, 0.5, 0.125]).reshape(3, 1, 1, 1)
    return step(m, "Mul", step(m, "Clip", m.node("Round", step(m, "Div", w, scales)), -7, 7), scales)


def weight_on_an_even_grid(m: ModelBuilder, w: str) -> str:
    """DoReFa's: 16 levels around 0, which is none of them, so the zero point is a half."""
    unit = step(m, "Clip", step(m, "Add", step(m, "Mul", w, 0.5), 0.5), 0, 1)
    level = step(m, "Div", m.node("Round", step(m, "Mul", unit, 15)), 15)
    return step(m, "Sub", step(m, "Mul", level, 2), 1)


def sign_of_a_weight(m: ModelBuilder, w: str) -> str:
    return estimated(m, w, step(m, "Mul", m.node("Sign", w), 0.75))


WEIGHTS: dict[str, Build] = {
    f.__name__.replace("_", " "): f
    for f in (
        power_of_two_weight, estimated_weight, weight_with_a_scale_per_output, weight_on_an_even_grid,
        sign_of_a_weight,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_quantized_in_pieces(name: str, tmp_path: Path) -> None:
    """Its numbers are eighths of 16ths: every step that is computed in float32 is exact."""
    m = ModelBuilder()
    weights = np.round(normal((3, 2, 2, 2), 0.6) * 128) / 128
    weights[0, 0, 0] = 0.0, -0.0625
    m.output(m.node("Conv", m.quant(m.input(SHAPE), 2**-3, 6), WEIGHTS[name](m, m.constant(weights))))
    quantized = import_bytes(m, tmp_path)
    data = np.round(normal(SHAPE, 2) * 8) / 8
    want = evaluate_model(m.build(), data)
    for graph in (quantized, lower(quantized)):
        check_same(next(iter(run(graph, data).values())), want)


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_a_weight_with_a_number_added_per_output_is_no_scaled_one(op: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    weight = step(m, op, m.node("Round", m.constant(normal((3, 2, 2, 2)))), np.reshape([1.0, 2, 3], (3, 1, 1, 1)))
    m.output(m.node("Conv", m.quant(m.input(SHAPE), 2**-3, 6), weight))
    assert f"error[PEF0407]: {op} of a constant of shape [3, 2, 2, 2] is not supported" in refusal_of(m, tmp_path)


def test_the_pieces_are_one_quantizer_of_the_step_that_the_file_has(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(scaled(m, m.input(SHAPE)))
    (quantize,) = import_bytes(m, tmp_path).ops
    assert isinstance(quantize, Quantize)
    assert not quantize.stages
    found = quantize.quantization
    assert (found.bits, found.signed, found.narrow, found.zero_point, found.scale.step) == (
        4, True, False, 0, Fraction(1, 8),
    )  # fmt: skip


def test_rounded_numbers_without_limits_are_refused_and_clipping_them_helps(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE), 0.125, 8)
    m.output(m.node("Conv", m.node("Floor", x, name="floor"), m.weight(normal((3, 2, 2, 2)))))
    assert refusal_of(m, tmp_path) == (
        "error[PEF0302]: the rounded numbers have no limits that a format holds\n  at:   floor (Floor), tensor 't1'\n"
        "  help: clip right after the rounding, or right before it: torch.clamp(..., -128, 127)"
    )
    m = ModelBuilder()
    x = m.quant(m.input(SHAPE), 0.125, 8)
    clipped = step(m, "Clip", m.node("Floor", x), -128, 127)
    m.output(m.node("Conv", clipped, m.weight(normal((3, 2, 2, 2)))))
    data = normal(SHAPE, 4)
    got = next(iter(run(lower(import_bytes(m, tmp_path)), data).values()))
    np.testing.assert_array_equal(got, evaluate_model(m.build(), data))


def test_a_file_cannot_hold_a_node_of_our_own_domain(tmp_path: Path) -> None:
    m = ModelBuilder(quant_domain="pefslc", quant_version=1)
    m.output(m.node("Round", m.input(SHAPE), domain="pefslc", name="forged", rounding=1))
    assert refusal_of(m, tmp_path).startswith("error[PEF0401]: operator Round is not supported\n  at:   forged (Round)")


def test_what_a_model_gives_out_in_the_middle_of_the_pieces_stays(tmp_path: Path) -> None:
    m = ModelBuilder()
    codes = step(m, "Clip", m.node("Round", step(m, "Div", m.input(SHAPE), 0.125)), -8, 7)
    m.output(codes)
    m.output(step(m, "Mul", codes, 0.125))
    data = normal(SHAPE)
    codes_got, values_got = run(lower(import_bytes(m, tmp_path)), data).values()
    np.testing.assert_array_equal(codes_got, np.clip(np.rint(data / 0.125), -8, 7))
    np.testing.assert_array_equal(values_got, codes_got * 0.125)
