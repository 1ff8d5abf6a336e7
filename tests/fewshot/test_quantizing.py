"""A trained backbone in integers: what is compiled computes what torch does, after training and after more of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from fewshot.network_support import drawn, tiny  # noqa: E402

from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.fewshot.networks import Activation  # noqa: E402
from pefslc.fewshot.networks.features import features_of  # noqa: E402
from pefslc.fewshot.networks.format_space import FormatSpace  # noqa: E402
from pefslc.fewshot.networks.quantizing import (  # noqa: E402
    after_training,
    chosen_formats,
    compiled,
    folded,
    in_formats,
    quantized,
)
from pefslc.fewshot.networks.recipe import Recipe  # noqa: E402
from pefslc.fewshot.networks.training import Trained, fit, train  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

RECIPE = Recipe(epochs=4, batch=8, rate=1e-2)


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train(tiny(), drawn(), RECIPE)
    torch.set_num_threads(before)


def codes(program: Any, trained: Trained, images: Any) -> Any:
    return program.run(trained.description.normalized(images).numpy())["output"]


def test_folding_keeps_the_features(trained: Trained) -> None:
    images = drawn().images
    expected = features_of(trained.network, trained.description, images)
    got = features_of(folded(trained).network, trained.description, images)
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_format_a_tensor_gives_the_program_that_is_trained_on(trained: Trained) -> None:
    """Before the first step, the integers in the formats of `--fmt auto` are those of its program."""
    images = drawn().images
    space = FormatSpace(trained, 4, images)
    begins = in_formats(trained, space.formats(space.plan(4)))
    expected = codes(after_training(trained, "auto:4", images), trained, images)
    assert np.array_equal(features_of(begins.network, begins.description, images), expected)
    assert np.array_equal(codes(compiled(begins, images), trained, images), expected)


@pytest.mark.parametrize("fmt", ["auto:3", "Q2.4"])
def test_what_was_trained_on_is_compiled_to_the_same_integers(trained: Trained, fmt: str) -> None:
    data = drawn()
    recipe = Recipe(epochs=1, batch=8, rate=1e-2)
    begins = quantized(trained, fmt, data.images)
    ends = fit(begins, data, recipe, teacher=trained.teacher)
    before, after = (features_of(t.network, t.description, data.images) for t in (begins, ends))
    assert not np.array_equal(before, after)
    assert np.array_equal(codes(compiled(ends, data.images), trained, data.images), after)


def test_pooled_and_leaky_networks_compile_too() -> None:
    data = drawn()
    start = train(tiny(strided=False, activation=Activation.LEAKY_RELU), data, Recipe(epochs=1, batch=16))
    ends = quantized(start, "auto:5", data.images)
    features = features_of(ends.network, ends.description, data.images)
    assert features.std() > 0.01
    assert np.array_equal(codes(compiled(ends, data.images), start, data.images), features)


def test_formats_fit_the_accumulator_of_the_target(trained: Trained) -> None:
    images = drawn().images
    wide = chosen_formats(trained, "auto:8", images)
    assert {f.bits for f in (*wide.weights.values(), *wide.results.values())} == {8}
    narrow = chosen_formats(trained, "auto:8", images, "tensil", arch="custom_perf")
    assert min(f.bits for f in (*narrow.weights.values(), *narrow.results.values())) < 8
    assert compiled(in_formats(trained, narrow), images, "tensil", arch="custom_perf").exact


def test_a_network_that_a_format_kills_is_said(trained: Trained) -> None:
    """In Q12.-4 every weight below 8 is zero."""
    with pytest.raises(CompileError, match="'the quantized network' computes the same features for all of 48 pictures"):
        compiled(quantized(trained, "Q12.-4", drawn().images), drawn().images)


def test_a_network_is_quantized_once(trained: Trained) -> None:
    images = drawn().images
    once = quantized(trained, "Q2.3", images)
    for again in (quantized, after_training, chosen_formats):
        with pytest.raises(CompileError, match="the network is quantized already"):
            again(once, "auto:4", images)
    with pytest.raises(CompileError, match="the network is a float one"):
        compiled(trained, images)


@pytest.mark.parametrize("fmt", ["Q2", "auto:99", "auto", "UQ2.3"])
def test_what_is_no_format_is_refused(trained: Trained, fmt: str) -> None:
    with pytest.raises(CompileError):
        quantized(trained, fmt, drawn().images)
