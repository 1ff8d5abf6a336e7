"""Emitted C is free of warnings, of both compilers, on networks of every kind; and clang's sanitizers are silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from architectures import ARCHITECTURES, architecture
from pefslc.targets.c.target import CTarget

_EXAMPLES = Path(__file__).parents[2] / "examples"

GCC_MORE = ("-Wshadow", "-Wsign-conversion", "-Wcast-qual", "-Wundef", "-Wtype-limits", "-Wlogical-op", "-Wvla")
INTEGERS = ("-fsanitize=undefined,integer", "-fno-sanitize-recover=all")


def _add_random_graphs(bench, random_graphs, seeds):  # type: ignore[no-untyped-def]
    for seed in seeds:
        bench.add(random_graphs(seed), CTarget(caller_arena=seed % 3 == 0))


def _window_beyond_the_image(build_graph):  # type: ignore[no-untyped-def]
    """5 x 5 taps on 4 x 3 pixels, with padding: no window lies in the image."""
    b = build_graph("beyond")
    x = b.input((1, 2, 4, 3), 5)
    weight = np.arange(3 * 2 * 25).reshape(3, 2, 5, 5) % 13 - 6
    tall = b.conv(x, weight, pads=(2, 2, 2, 2))
    wide = b.conv(x, weight[:, :, :4], pads=(0, 2, 0, 2))
    up = b.conv(x, weight, pads=(3, 3, 3, 3), input_dilations=(2, 2))
    return b.graph(*(b.clamp(y, -100, 100) for y in (tall, wide, up)))


@pytest.mark.parametrize("caller_arena", [False, True])
def test_clang_has_nothing_to_say_where_no_window_fits_into_the_image(  # type: ignore[no-untyped-def]
    bench, build_graph, clang_is_silent, caller_arena
):
    bench.add(_window_beyond_the_image(build_graph), CTarget(caller_arena=caller_arena))
    clang_is_silent(bench.folder)


def test_where_no_window_fits_into_the_image_the_codes_are_right(bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    bench.add(_window_beyond_the_image(build_graph))
    bench.check(sanitizer_flags)


def test_clang_has_nothing_to_say_about_random_graphs(bench, random_graphs, clang_is_silent):  # type: ignore[no-untyped-def]
    _add_random_graphs(bench, random_graphs, range(40))
    clang_is_silent(bench.folder)


def test_clang_has_nothing_to_say_about_known_architectures(tmp_path, clang_is_silent):  # type: ignore[no-untyped-def]
    _save_architectures(tmp_path)
    clang_is_silent(tmp_path)


def test_clang_has_nothing_to_say_about_trained_networks(models, tmp_path, clang_is_silent):  # type: ignore[no-untyped-def]
    _save_trained(models, tmp_path)
    clang_is_silent(tmp_path)


def test_gcc_has_nothing_to_say_about_any_of_them(  # type: ignore[no-untyped-def]
    bench, build_graph, random_graphs, check_syntax, gcc
):
    _add_random_graphs(bench, random_graphs, range(40))
    bench.add(_window_beyond_the_image(build_graph))
    _save_architectures(bench.folder)
    check_syntax(gcc, bench.folder, GCC_MORE)


def test_integers_neither_wrap_nor_lose_bits_under_clang(bench, random_graphs, clang):  # type: ignore[no-untyped-def]
    bench.cc = clang
    _add_random_graphs(bench, random_graphs, range(100, 106))
    bench.check(("-O1", *INTEGERS))


def _save_architectures(folder: Path) -> None:
    for name in ARCHITECTURES:
        pefslc.compile(architecture(name).save(folder, f"{name}.onnx"), target="c").save(folder)


def _save_trained(models: Path, folder: Path) -> None:
    found = [*sorted(models.glob("*.onnx")), *sorted(_EXAMPLES.glob("*q2_3.onnx"))]
    assert len(found) > 3
    for path in found:
        pefslc.compile(path, target="c").save(folder)
