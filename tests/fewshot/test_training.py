"""Training: it learns, and it goes on from a checkpoint to the same bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from fewshot.network_support import Drawn, drawn, tiny  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.fewshot.networks import training  # noqa: E402
from pefslc.fewshot.networks.draws import in_twos  # noqa: E402
from pefslc.fewshot.networks.features import features_of, require_alive  # noqa: E402
from pefslc.fewshot.networks.images import shifted  # noqa: E402
from pefslc.fewshot.networks.objective import Classifier, Mix, contrastive, loss_of  # noqa: E402
from pefslc.fewshot.networks.recipe import Recipe  # noqa: E402
from pefslc.fewshot.networks.training import Trained, Validation, fit, train  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

FEW = Recipe(epochs=3, batch=16)
LEARNS = Recipe(epochs=8, batch=8, rate=1e-2)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told of each step, not twice a second."""
    monkeypatch.setattr(training, "_SECONDS_BETWEEN", 0.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def state(trained: Trained) -> dict[str, Any]:
    return {**trained.network.state_dict(), **trained.classifier.state_dict()}


def same(a: Trained, b: Trained) -> bool:
    return all(torch.equal(state(a)[name], state(b)[name]) for name in state(a))


def test_training_tells_the_classes_apart() -> None:
    data = drawn()
    trained = train(tiny(), data, LEARNS)
    assert trained.history[-1].loss < 0.7 * trained.history[0].loss
    logits = trained.classifier(
        torch.from_numpy(features_of(trained.network, tiny(), data.images)).float(), trained.classifier.classes
    )
    assert (logits.argmax(1).numpy() == data.labels).mean() > 0.9
    assert not trained.network.training


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("changes", [{}, {"rotations": True, "mixup": True}])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    data, recipe = drawn(), replace(FEW, **changes)
    whole = train(tiny(), data, recipe)

    class Stop(Exception):
        pass

    def stop(*told: Any) -> None:
        if told[2].startswith("epoch 3"):
            raise Stop

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Stop):
        train(tiny(), data, recipe, checkpoint=path, progress=stop)
    seen: list[int] = []
    resumed = train(tiny(), data, recipe, checkpoint=path, progress=lambda done, *_: seen.append(done))
    assert same(whole, resumed)
    assert str(whole.history) == str(resumed.history)
    assert min(seen) > 2 * (len(data.images) // 16), "two epochs were not done again"
    again = train(tiny(), data, recipe, checkpoint=path)
    assert same(whole, again), "what is finished is read"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": replace(FEW, rate=1e-3)},
        {"recipe": replace(FEW, seed=1)},
        {"data": drawn(seed=1)},
        {"description": tiny(maps=(4, 6, 10))},
        {"description": tiny(mean=(0.5, 0.5, 0.4))},
    ],
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "checkpoint.pt"
    arguments = {"description": tiny(), "data": drawn(), "recipe": replace(FEW, epochs=1)}
    train(**arguments, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(CompileError, match="is the checkpoint of another training"):
        train(**{**arguments, **other}, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no file of torch", None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "checkpoint.pt"
    if content is None:
        torch.save({"kind": "weights"}, path)
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(CompileError, match="is no checkpoint of a training"):
        train(tiny(), drawn(), FEW, checkpoint=path)
    assert path.read_bytes() == before


def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    train(tiny(), drawn(), replace(FEW, epochs=1), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CompileError, match="is no checkpoint of a training"):
        train(tiny(), drawn(), replace(FEW, epochs=1), checkpoint=path)


def test_the_seed_decides() -> None:
    torch.manual_seed(1)
    first = train(tiny(), drawn(), FEW)
    torch.manual_seed(2)
    assert same(first, train(tiny(), drawn(), FEW))
    assert not same(first, train(tiny(), drawn(), replace(FEW, seed=1)))


@pytest.mark.parametrize("epochs", range(1, 14))
def test_any_number_of_steps_has_a_schedule(epochs: int) -> None:
    data = drawn(count=1)
    assert len(train(tiny(), data, Recipe(epochs=epochs, batch=4)).history) == epochs


def test_validation_sees_the_features_after_each_epoch() -> None:
    val, seen = drawn(seed=3), []

    def figure(features: Any) -> float:
        seen.append(features)
        return float(len(seen))

    trained = train(tiny(), drawn(), FEW, validation=Validation(val.images, figure))
    assert [e.figure for e in trained.history] == [1.0, 2.0, 3.0]
    assert np.array_equal(seen[-1], features_of(trained.network, tiny(), val.images))
    assert same(trained, train(tiny(), drawn(), FEW)), "looking changes nothing"


def test_a_teacher_adds_what_its_definition_says() -> None:
    """0.5 times the divergence of the softened logits, by 2^2 (Hinton et al. 2015), and 2 (1 - cos) of the features."""
    data, plain = drawn(count=2), Recipe(epochs=0, smoothing=0.0, temperature=10, contrast=0)
    student, other = (train(tiny(), data, replace(plain, seed=seed)) for seed in (0, 9))
    x, labels = tiny().normalized(data.images), torch.from_numpy(data.labels)

    def loss(teacher: Trained | None) -> float:
        with torch.no_grad():
            wanted = None if teacher is None else teacher.teacher
            return float(loss_of(student.network, student.classifier, x, labels, plain, wanted))

    def softened(trained: Trained) -> tuple[Any, Any]:
        features = features_of(trained.network, tiny(), data.images)
        vectors = trained.classifier.classes.detach().double().numpy()
        cosines = features @ vectors.T / np.linalg.norm(features, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
        powers = np.exp(10 * cosines / 2)
        return features, powers / powers.sum(1, keepdims=True)

    (f, p), (g, q) = softened(student), softened(other)
    divergence = (q * np.log(q / p)).sum(1).mean()
    cosine = ((f * g).sum(1) / np.linalg.norm(f, axis=1) / np.linalg.norm(g, axis=1)).mean()
    assert divergence > 0.01
    assert loss(other) - loss(None) == pytest.approx(0.5 * 4 * divergence + 2 * (1 - cosine), rel=1e-4)
    assert loss(student) == pytest.approx(loss(None), abs=1e-5)


def test_the_contrastive_loss_is_that_of_its_definition() -> None:
    """-1/|P(i)| sum of log exp(z_i z_p / t) / sum of exp(z_i z_a / t), p in P(i), a not i: Khosla et al. 2020."""
    draw = np.random.default_rng(4)
    features, labels = draw.normal(1, 1, (9, 5)), [0, 1, 0, 2, 0, 3, 1, 4, 2]
    centred = features - features.mean(0)
    z = centred / np.linalg.norm(centred, axis=1)[:, None]
    terms = []
    for i, mine in enumerate(labels):
        partners = [p for p, other in enumerate(labels) if other == mine and p != i]
        below = sum(math.exp(z[i] @ z[a] / 0.1) for a in range(9) if a != i)
        if partners:
            terms.append(-sum(math.log(math.exp(z[i] @ z[p] / 0.1) / below) for p in partners) / len(partners))
    assert len(terms) == 7
    got = contrastive(torch.from_numpy(features), torch.tensor(labels))
    assert float(got) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_a_batch_without_pairs_has_no_contrastive_loss() -> None:
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = contrastive(features, torch.arange(4))
    loss.backward()
    assert float(loss) == 0
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros(4, 5))


def test_the_contrastive_loss_is_added_by_its_weight() -> None:
    data = drawn(count=3)
    start = train(tiny(), data, Recipe(epochs=0))
    x, labels = tiny().normalized(data.images), torch.from_numpy(data.labels)
    with torch.no_grad():
        without, once, twice = (
            float(loss_of(start.network, start.classifier, x, labels, Recipe(contrast=weight))) for weight in (0, 1, 2)
        )
        alone = float(contrastive(start.network(x), labels))
    assert once - without == pytest.approx(alone, rel=1e-4)
    assert twice - without == pytest.approx(2 * alone, rel=1e-4)


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=6), seed=st.integers(0, 100), epoch=st.integers(0, 3))
def test_pictures_come_in_twos_of_a_class(counts: list[int], seed: int, epoch: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order = in_twos(labels, seed, epoch)
    assert sorted(order) == list(range(len(labels)))
    # A class of n pictures has n // 2 pairs of neighbours that are taken together from the left; runs of one class that
    # met by chance are cut the same way.
    pairs = dict.fromkeys(range(len(counts)), 0)
    i, found = 0, labels[order]
    while i < len(found):
        together = i + 1 < len(found) and found[i] == found[i + 1]
        pairs[int(found[i])] += together
        i += 1 + together
    assert all(pairs[c] == n // 2 for c, n in enumerate(counts))


def test_the_twos_of_another_epoch_are_others() -> None:
    labels = np.repeat(np.arange(5), 8)
    first, second = in_twos(labels, 0, 0), in_twos(labels, 0, 1)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, in_twos(labels, 0, 0))


def test_the_teacher_is_not_trained() -> None:
    data = drawn()
    teacher = train(tiny(), data, FEW)
    before = {name: tensor.clone() for name, tensor in state(teacher).items()}
    fit(train(tiny(), data, Recipe(epochs=0, seed=9)), data, FEW, teacher=teacher.teacher)
    assert all(torch.equal(before[name], tensor) for name, tensor in state(teacher).items())


def test_mixing_the_features_is_linear() -> None:
    """The loss of a mix in the features, from the definition."""
    data = drawn()
    plainly = Recipe(epochs=0, smoothing=0.0, contrast=0)
    start = train(tiny(), data, plainly)
    network, classifier = start.network.eval(), start.classifier
    x, labels = tiny().normalized(data.images[:6]), torch.tensor([0, 1, 2, 3, 0, 1])
    partners = torch.tensor([5, 4, 3, 2, 1, 0])
    with torch.no_grad():
        for depth in range(4):
            got = loss_of(network, classifier, x, labels, plainly, mix=Mix(depth, 0.75, partners))
            y = x
            for i, block in enumerate(network.blocks):
                y = block(0.75 * y + 0.25 * y[partners] if i == depth else y)
            y = y.mean((2, 3))
            y = 0.75 * y + 0.25 * y[partners] if depth == 3 else y
            log_p = torch.log_softmax(classifier(y, classifier.classes), 1)
            plain = torch.log_softmax(classifier(network(x), classifier.classes), 1)
            rows = torch.arange(6)
            mixed = -(0.75 * log_p[rows, labels] + 0.25 * log_p[rows, labels[partners]]).mean()
            assert float(got) == pytest.approx(float(mixed - plain[rows, labels].mean()), rel=1e-5)


def test_logits_are_cosines_times_the_temperature() -> None:
    classifier = Classifier(5, 3, temperature=7.0)
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).double()
    vectors = classifier.classes.double()
    got = classifier(features, vectors)
    for i, f in enumerate(features):
        for j, v in enumerate(vectors):
            assert float(got[i, j]) == pytest.approx(7 * float(f @ v / (f.norm() * v.norm())))


@pytest.mark.parametrize("offset", [(0, 0), (2, -1), (-3, 3), (20, 0)])
def test_shifted_pictures_repeat_their_edge(offset: tuple[int, int]) -> None:
    images = drawn(count=1).images
    got = shifted(images, np.tile(offset, (len(images), 1)))
    for y in range(16):
        for x in range(16):
            from_y, from_x = min(max(y - offset[0], 0), 15), min(max(x - offset[1], 0), 15)
            assert np.array_equal(got[:, y, x], images[:, from_y, from_x])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 16, 16, 3))}, "the pictures are float64"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8)}, r"not uint8 \[N, 16, 16, 3\]"),
        ({"images": np.zeros((0, 16, 16, 3), np.uint8), "labels": np.zeros(0, np.int64)}, "the pictures are"),
        ({"labels": np.zeros(4, np.int64)}, "all pictures are of one class"),
        ({"labels": np.array([0, 1, 2, 4])}, "labels reach from 0 to 4, and there are 4 classes"),
        ({"labels": np.array([0, -1, 2, 3])}, "labels reach from -1"),
        ({"labels": np.zeros(3, np.int64)}, "for 4 pictures"),
        ({"labels": np.zeros(4)}, "the labels are float64"),
    ],
)
def test_pictures_that_do_not_suit_are_refused(change: dict[str, Any], message: str) -> None:
    data = drawn(count=1)
    with pytest.raises(CompileError, match=message):
        train(tiny(), Drawn(**{"images": data.images, "labels": data.labels, "names": data.names, **change}), FEW)


def test_a_loss_that_is_no_number_is_said() -> None:
    start = train(tiny(), drawn(), Recipe(epochs=0))
    with torch.no_grad():
        start.network.blocks[0].norm1.weight.fill_(float("nan"))
    with pytest.raises(CompileError, match="the loss is nan in epoch 1 of 3"):
        fit(start, drawn(), FEW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs is '-1', not a whole number of 0 to"),
        ({"epochs": 1.5}, "epochs is '1.5'"),
        ({"batch": 1}, "batch is '1'"),
        ({"seed": 2**63}, "seed is"),
        ({"rate": 0}, "rate is '0', not a number above 0"),
        ({"rate": float("nan")}, "rate is 'nan'"),
        ({"rate": "fast"}, "rate is 'fast'"),
        ({"smoothing": 1.0}, "smoothing is '1.0', not a number from 0 to below 1"),
        ({"decay": -0.1}, "decay is"),
        ({"contrast": -1}, "contrast is '-1', not a number from 0 to below 1000"),
    ],
)
def test_a_recipe_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        Recipe(**change)


def test_a_dead_network_is_said() -> None:
    with pytest.raises(CompileError, match="'net' computes the same features for all of 5 pictures"):
        require_alive(np.ones((5, 3)), "net")
    require_alive(np.ones((1, 3)), "net")
    require_alive(np.array([[1, 2], [1, 3]]), "net")
