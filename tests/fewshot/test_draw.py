"""Episodes: against Philox and sorting written from their definitions, and what must not depend on what."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes import draw
from pefslc.fewshot.episodes.draw import Episodes

COUNTS = (20, 31, 17, 20, 25, 18, 40)
WORD = (1 << 64) - 1


def labels_of(counts: tuple[int, ...], first_label: int = 0) -> NDArray[np.int64]:
    """Labels in a mixed order."""
    ordered = np.repeat(np.arange(len(counts)) + first_label, counts)
    return ordered[np.argsort((np.arange(len(ordered)) * 7919) % 1009, kind="stable")]


def philox_block(counter: int, key: int) -> list[int]:
    """Philox-4x64-10 from the paper: ten rounds of two multiplications, the key raised between them."""
    x = [(counter >> 64 * i) & WORD for i in range(4)]
    k = [key & WORD, key >> 64]
    for _ in range(10):
        p, q = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(q >> 64) ^ x[1] ^ k[0], q & WORD, (p >> 64) ^ x[3] ^ k[1], p & WORD]
        k = [(k[0] + 0x9E3779B97F4A7C15) & WORD, (k[1] + 0xBB67AE8584CAA73B) & WORD]
    return x


def expected_episode(settings: Episodes, labels: NDArray[np.int64], episode: int) -> list[tuple[int, list[int]]]:
    """[(class, its images in their order)] of one episode; words are taken one by one."""
    members = {c: [i for i, label in enumerate(labels.tolist()) if label == c] for c in sorted(set(labels.tolist()))}
    most = max(map(len, members.values()))
    blocks = -(-(len(members) + settings.ways * most) // 4)
    # NumPy raises the counter before it makes a block.
    words = [w for b in range(blocks) for w in philox_block(episode * blocks + b + 1, settings.seed)]
    order = sorted(range(len(members)), key=lambda j: words[j])[: settings.ways]
    drawn = []
    for way, position in enumerate(sorted(order)):
        label, images = list(members.items())[position]
        own = words[len(members) + way * most :]
        in_order = sorted(range(len(images)), key=lambda j: own[j])
        drawn.append((label, [images[j] for j in in_order[: settings.queries + settings.shots]]))
    return drawn


@pytest.mark.parametrize(
    "settings",
    [Episodes(shots=2), Episodes(ways=7, shots=5, queries=3, seed=9), Episodes(2, 1, 1, (1 << 128) - 3)],
    ids=str,
)
def test_episodes_are_the_order_of_words_of_philox(settings: Episodes) -> None:
    labels = labels_of(COUNTS, first_label=30)
    drawn = settings.draw(labels, 1000, 1020)
    for i in range(len(drawn)):
        wanted = expected_episode(settings, labels, 1000 + i)
        assert drawn.classes[i].tolist() == [c for c, _ in wanted]
        assert drawn.queries[i].tolist() == [images[: settings.queries] for _, images in wanted]
        assert drawn.supports[i].tolist() == [images[settings.queries :] for _, images in wanted]


def test_the_episodes_are_those_of_every_machine() -> None:
    digest = Episodes(shots=5).draw(labels_of((40,) * 20), 0, 500).digest()
    assert digest == "1395b6a0dd2e4f1712edac96f65ddbbcc87a5c2e2467f1a0c713d29b78aba1a2"


def test_an_episode_does_not_depend_on_the_range_that_it_is_drawn_in(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = labels_of(COUNTS)
    whole = Episodes(shots=2).draw(labels, 0, 60)
    monkeypatch.setattr(draw, "_WORDS_AT_ONCE", 2000)  # chunks of nine episodes
    for first, last in ((0, 60), (7, 41), (59, 60)):
        part = Episodes(shots=2).draw(labels, first, last)
        for name in ("classes", "supports", "queries"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[first:last])


def test_images_are_of_their_classes_and_none_is_drawn_twice() -> None:
    labels = labels_of(COUNTS)
    drawn = Episodes(shots=2).draw(labels, 0, 300)
    assert (np.diff(drawn.classes, axis=1) > 0).all()
    for images in (drawn.supports, drawn.queries):
        assert (labels[images] == drawn.classes[:, :, None]).all()
    together = np.sort(np.concatenate([drawn.supports, drawn.queries], axis=2).reshape(300, -1), axis=1)
    assert (np.diff(together, axis=1) > 0).all()


def test_classes_and_images_are_drawn_equally_often() -> None:
    """Within five standard deviations of a fair draw."""
    counts = (30,) * 12
    drawn = Episodes(shots=2).draw(labels_of(counts), 0, 4000)
    for values, kinds, share in (
        (drawn.classes, 12, 5 / 12),
        (drawn.queries, 360, 5 / 12 * 15 / 30),
        (drawn.supports, 360, 5 / 12 * 2 / 30),
    ):
        seen = np.bincount(values.reshape(-1), minlength=kinds)
        assert (np.abs(seen - 4000 * share) < 5 * np.sqrt(4000 * share * (1 - share))).all()
    pairs = Counter(tuple(c) for c in drawn.classes.tolist())
    assert len(pairs) > 780  # of 792 sets of five classes


def test_fewer_shots_take_the_same_queries_and_the_first_supports() -> None:
    labels = labels_of(COUNTS)
    one, two = (Episodes(shots=k).draw(labels, 0, 50) for k in (1, 2))
    assert np.array_equal(one.queries, two.queries)
    assert np.array_equal(one.supports, two.supports[:, :, :1])
    assert one.digest() != two.digest()


def test_other_seeds_draw_other_episodes() -> None:
    labels = labels_of(COUNTS)
    digests = {Episodes(seed=s).draw(labels, 0, 5).digest() for s in (0, 1, 1 << 64)}
    assert len(digests) == 3


def test_labels_only_name_the_classes() -> None:
    labels = labels_of(COUNTS)
    drawn, renamed = Episodes().draw(labels, 0, 20), Episodes().draw((labels * 3 + 5).astype(np.uint8), 0, 20)
    assert np.array_equal(drawn.queries, renamed.queries)
    assert np.array_equal(drawn.classes * 3 + 5, renamed.classes)


def refused(**settings: object) -> str:
    with pytest.raises(CompileError) as caught:
        Episodes(**settings)  # type: ignore[arg-type]
    assert caught.value.problems[0].code is Code.EPISODES
    return str(caught.value)


def refused_draw(labels: object, first: object = 0, last: object = 1, names: tuple[str, ...] = ()) -> str:
    with pytest.raises(CompileError) as caught:
        Episodes().draw(labels, first, last, names)  # type: ignore[arg-type]
    assert caught.value.problems[0].code is Code.EPISODES
    return str(caught.value)


def test_settings_that_are_no_task_are_refused() -> None:
    assert "shots is 0" in refused(shots=0)
    assert "ways is 1" in refused(ways=1)
    assert "queries is 0" in refused(queries=0)
    assert "seed is -1" in refused(seed=-1)
    assert "129 bits" in refused(seed=1 << 128)
    assert "ways is '2.5', no integer" in refused(ways=2.5)
    assert "shots is 'True', no integer" in refused(shots=True)
    assert Episodes(shots=np.int64(5)) == Episodes(shots=5)  # type: ignore[arg-type]


def test_labels_that_hold_no_episode_are_refused() -> None:
    names = ("cup", "mug", "pen")
    assert "5 ways need 5 classes, and the labels have 3" in refused_draw(labels_of((20, 20, 20)), names=names)
    few = refused_draw(labels_of((20, 15, 20, 20, 20)), names=names)
    assert "class 'mug' has 15 images; an episode needs 16 (shots 1, queries 15)" in few
    assert "other classes" not in few
    assert "class '3' has 2 images" in refused_draw(labels_of((20, 15, 20, 2, 20)), names=names)
    assert "other classes with too few: 1" in refused_draw(labels_of((20, 15, 20, 2, 20)))
    assert "the labels have 0" in refused_draw(np.zeros(0, dtype=np.int64))
    assert "float64 of shape [3]" in refused_draw(np.zeros(3))
    assert "shape [1, 2]" in refused_draw(np.zeros((1, 2), dtype=np.int64))
    good = labels_of(COUNTS)
    assert "episodes 5 to 5 are none" in refused_draw(good, 5, 5)
    assert "episodes -1 to 5 are none" in refused_draw(good, -1, 5)
    assert "no integer" in refused_draw(good, 0, 1.0)
    assert len(Episodes(ways=7, shots=2).draw(good, 0, 1)) == 1  # the smallest class is used up
