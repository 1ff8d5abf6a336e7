"""Classifiers of every kind and size that the tests compile."""

from __future__ import annotations

import random

from pefslc.fewshot.head.spec import HeadSpec


def _centre(seed: int, dimension: int, low: int, high: int, fraction_bits: int = 4) -> list[int]:
    draw = random.Random(seed)
    return [draw.randint(low << fraction_bits, high << fraction_bits) for _ in range(dimension)]


# Ranges that are a whole C type and that are not; numbers that fill their words and that are tiny; any centre.
SPECS = {
    "cosine80": HeadSpec.cosine(0, 496, _centre(1, 80, 0, 496), max_classes=8),
    "small": HeadSpec.cosine(-2, 1, [-3, 3], fraction_bits=2, max_shots=3, max_classes=4, max_devices=3),
    "whole_type": HeadSpec.cosine(-128, 127, _centre(2, 3, -128, 127), max_classes=5),
    "one": HeadSpec.cosine(0, 1, [0], fraction_bits=0, max_shots=1, max_classes=1, max_devices=2),
    "brim": HeadSpec.cosine(-30000, 30000, [0, 480000, -7], max_shots=2583, max_classes=6),
    "euclid": HeadSpec.euclid(16, -16, 15, max_classes=8),
    "euclid_brim": HeadSpec.euclid(2, -1000000, 1000000, max_shots=1073, max_classes=6),
    "euclid_unsigned": HeadSpec.euclid(5, 0, 255, max_shots=7, max_classes=4),
}
