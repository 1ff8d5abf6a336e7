"""Bits searched for a backbone: budgets hold on what is compiled, and the log is what the networks measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from fewshot.network_support import drawn, tiny  # noqa: E402

from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.fewshot.networks import mixed_precision  # noqa: E402
from pefslc.fewshot.networks.fake_quantization import FakeQuantized  # noqa: E402
from pefslc.fewshot.networks.features import features_of  # noqa: E402
from pefslc.fewshot.networks.format_space import FeatureAngle, FormatSpace  # noqa: E402
from pefslc.fewshot.networks.mixed_precision import MixedFormats, missed_budgets, mixed_formats  # noqa: E402
from pefslc.fewshot.networks.quantizing import chosen_formats, compiled, folded, in_formats  # noqa: E402
from pefslc.fewshot.networks.recipe import Recipe  # noqa: E402
from pefslc.fewshot.networks.training import Trained, train  # noqa: E402
from pefslc.fewshot.precision.descent import Bits, Budget, Descent, descend  # noqa: E402
from pefslc.numeric.accumulate import bits_for_range  # noqa: E402
from pefslc.numeric.format import FixedPoint  # noqa: E402
from pefslc.numeric.quantize import dequantize, quantize_array  # noqa: E402
from pefslc.numeric.quantizer import Quantizer  # noqa: E402
from pefslc.passes.check_accumulators import sum_ranges  # noqa: E402
from pefslc.train.tensor_formats import TensorFormats  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

MOST = 5
WATCHED = drawn(4, 8, seed=1).images


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train(tiny(), drawn(), Recipe(epochs=4, batch=8, rate=1e-2))
    torch.set_num_threads(before)


def search(trained: Trained, *budgets: str) -> MixedFormats:
    return mixed_formats(trained, MOST, budgets, drawn().images, WATCHED)


def bits_of(formats: TensorFormats) -> dict[str, int]:
    weights = {f"{name} weights": f.bits for name, f in formats.weights.items()}
    return {"input": formats.input.bits, **{name: f.bits for name, f in formats.results.items()}, **weights}


def angle(trained: Trained, formats: TensorFormats) -> float:
    """By the definition, one picture at a time."""
    wanted, got = (features_of(t.network, t.description, WATCHED) for t in (trained, in_formats(trained, formats)))
    wanted, got = wanted - wanted.mean(axis=0), got - got.mean(axis=0)
    return float(np.mean([1 - a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(wanted, got, strict=True)]))


def test_weights_and_activations_keep_their_budgets(trained: Trained) -> None:
    found = search(trained, "bits=3", "activations=3.5")
    assert bits_of(found.formats) == found.descent.bits
    modules = dict(in_formats(trained, found.formats).network.network.named_modules())
    counts = {name: modules[name].weight.numel() for name in found.formats.weights}
    spent = sum(f.bits * counts[name] for name, f in found.formats.weights.items())
    assert spent <= 3 * sum(counts.values())
    assert found.descent.costs[0] == pytest.approx(spent / sum(counts.values()))
    # 16 x 16 pixels: three blocks of two convolutions at full size and one at half of it, 4, 6 and 8 maps.
    values = {"input": 3 * 256}
    for block, (size, maps) in enumerate(((16, 4), (8, 6), (4, 8))):
        values |= {f"blocks.{block}.act{n}": size * size * maps for n in (1, 2)}
        values[f"blocks.{block}.act3"] = size * size // 4 * maps
    stored = sum(found.descent.bits[name] * count for name, count in values.items())
    assert stored <= 3.5 * sum(values.values())
    assert found.descent.costs[1] == pytest.approx(stored / sum(values.values()))


def test_the_log_is_what_the_networks_measure(trained: Trained) -> None:
    found = search(trained, "bits=4", "activations=4")
    space = FormatSpace(trained, MOST, drawn().images)
    assert found.descent.start_loss == pytest.approx(angle(trained, space.formats(space.plan(MOST))), abs=1e-6)
    assert found.loss == pytest.approx(angle(trained, found.formats), abs=1e-6)
    assert found.loss <= found.descent.loss
    assert set(found.descent.start.values()) == {MOST}


def test_fake_quantization_is_that_of_the_quantizers(trained: Trained) -> None:
    """To the bit, also where formats saturate, and when formats change."""
    made = None
    for fmt in ("auto:5", "auto:2"):
        formats = chosen_formats(trained, fmt, drawn().images)
        network = in_formats(trained, formats)
        made = made or FakeQuantized(folded(trained).network, formats).eval()
        made.formats = formats
        got, wanted = (features_of(n, trained.description, WATCHED) for n in (made, network.network))
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("fmt", ["Q1.1", "UQ0.2", "Q2.1", "Q-1.4", "UQ3.-1", "Q4.-2", "UQ1.3", "Q2.3"])
def test_fake_quantization_rounds_as_the_numeric_core_does(fmt: str) -> None:
    """On every eighth of a step from far below the format to far above it: all ties, and both ends."""
    format = FixedPoint.parse(fmt)
    q = format.quantization
    x = np.arange(8 * (q.low - 20), 8 * (q.high + 20) + 1) * float(q.scale.step) / 8
    wanted = dequantize(quantize_array(Quantizer(q), x, 0), q, 0)
    made = FakeQuantized(torch.nn.Identity(), TensorFormats(format))
    assert np.array_equal(made(torch.from_numpy(x).float()).double().numpy(), wanted)


def test_equal_arguments_find_equal_formats(trained: Trained) -> None:
    assert search(trained, "bytes=900") == search(trained, "bytes=900")


def test_sums_keep_the_budget_in_what_is_compiled(trained: Trained) -> None:
    found = mixed_formats(trained, 6, ["accumulator=custom_perf"], drawn().images, WATCHED)
    assert found.descent.costs[0] <= 16
    assert found.descent.loss == min(d.loss for d in found.tried if d.holds)
    assert [set(d.start.values()) for d in found.tried] == [{2 + i} for i in range(len(found.tried))]
    assert found.descent.loss == pytest.approx(angle(trained, found.formats), abs=1e-6)
    program = compiled(in_formats(trained, found.formats), drawn().images, "tensil", arch="custom_perf")
    sums = sum_ranges(program.graph)
    assert sums
    assert all(bits_for_range(low, high) <= 16 for low, high in sums.values())
    assert missed_budgets(program.lowered.reference, found.budgets) == ()
    wide = compiled(in_formats(trained, chosen_formats(trained, "auto:6", drawn().images)), drawn().images)
    (missed,) = missed_budgets(wide.lowered.reference, found.budgets)
    assert missed.startswith("accumulator=custom_perf: a sum takes ")


def test_sums_that_few_bits_miss_are_met_from_more_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few bits to begin with, weights keep narrow ranges: their codes are large, and so are the sums.

    Real descents take minutes here, one evaluation of all sums for each move that they look at. These go straight down.
    """

    def straight(start: Bits, budgets: Sequence[Budget], loss: Callable[[Bits], float], **_: object) -> Descent:
        return replace(descend(dict.fromkeys(start, 2), budgets, loss), start=dict(start))

    images = drawn(seed=0).images
    untrained = train(tiny(), drawn(), Recipe(epochs=0, seed=0))
    monkeypatch.setattr(mixed_precision, "descend", straight)
    found = mixed_formats(untrained, 6, ["accumulator=9"], images, WATCHED)
    holds = [d.holds for d in found.tried]
    assert holds[0] is False, "else this test says nothing"
    assert found.descent in [d for d in found.tried if d.holds]
    assert found.descent.loss == min(d.loss for d in found.tried if d.holds)
    program = compiled(in_formats(untrained, found.formats), images, "tensil", arch="custom_perf")
    assert all(bits_for_range(low, high) <= 9 for low, high in sum_ranges(program.graph).values())
    least = min(d.costs[0] for d in found.tried)
    with pytest.raises(CompileError, match=rf"the network misses accumulator=4 \({least:.0f}\)"):
        mixed_formats(untrained, 6, ["accumulator=4"], images, WATCHED)


def test_a_budget_out_of_reach_is_refused(trained: Trained) -> None:
    with pytest.raises(CompileError, match=r"with 2 bits everywhere the network misses bytes=100 \(\d+\)"):
        search(trained, "bytes=100")
    with pytest.raises(CompileError, match="unknown architecture 'nix'"):
        search(trained, "accumulator=nix")


def test_a_budget_that_holds_already_changes_nothing(trained: Trained) -> None:
    found = search(trained, "bits=5", "accumulator=32")
    assert found.descent.steps == ()
    assert all(d.steps == () for d in found.tried)
    space = FormatSpace(trained, MOST, drawn().images)
    assert found.formats == space.formats(space.plan(MOST))


def test_points_are_settled_by_the_features(trained: Trained) -> None:
    images = drawn().images
    space = FormatSpace(trained, 2, images)
    plan = space.plan(2)
    settled = space.settled(plan, images)
    before, after = (FeatureAngle(space, plan, images)(p) for p in (plan, settled))
    assert after < before, "at two bits, some point is not where features want it"
    assert bits_of(space.formats(settled)) == bits_of(space.formats(plan))
    assert chosen_formats(trained, "auto:2", images) == space.formats(settled)
