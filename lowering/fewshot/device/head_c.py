"""The classifier as C99: no float, no malloc, caller-owned state, comparisons as wide as their proven bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pefslc.fewshot.head.spec import HeadKind, HeadSpec, bounds_of
from pefslc.fewshot.head.state import NAME_BYTES, HeadState
from pefslc.fewshot.head.state_file import RECORD_HEAD_BYTES, header_bytes
from pefslc.targets.c.naming import comment_text, model_prefix
from pefslc.targets.c.stages import literal
from pefslc.targets.c.storage import INT32, narrowest, narrowest_signed, sum_type
from pefslc.targets.templates import templates_in
from pefslc.version import __version__

__all__ = ["emit_head_c"]

_NUMBERS_PER_LINE = 20
_MEANINGS = {
    HeadKind.COSINE: "the class whose mean is nearest, by the cosine at the centre",
    HeadKind.EUCLID: "the class whose mean is nearest, by the squared distance",
}
_THRESHOLDS = {
    HeadKind.COSINE: "Accepted: a cosine >= 0 whose square is at least t / d. The cosine of nothing is 0.",
    HeadKind.EUCLID: "Accepted: a squared distance of at most t / d, in steps of the code.",
}


def emit_head_c(name: str, spec: HeadSpec, backbone: str) -> dict[str, bytes]:
    """`<prefix>_head.h` and `<prefix>_head.c`, file name -> content; the prefix is that of the network's own C files.

    name      of the network, any text
    backbone  SHA-256 of the compiled backbone, 64 hexadecimal digits: states of others are refused

    Raises CompileError for another `backbone`.
    """
    empty = HeadState.new(spec, backbone, 0)
    bounds = bounds_of(spec)
    prefix = model_prefix(name)
    codes = narrowest(spec.low, spec.high)
    terms = (bounds.prototypes, bounds.queries)
    checks = []
    # A comparison that is never true would be warned of.
    least = -(1 << (codes.bits - 1)) if codes.signed else 0
    if spec.low > least:
        checks.append(f"codes[i] < {_literal(spec.low)}")
    if spec.high < least + (1 << codes.bits) - 1:
        checks.append(f"codes[i] > {_literal(spec.high)}")
    context = {
        "name": comment_text(name),
        "version": __version__,
        "prefix": prefix,
        "spec": spec,
        "cosine": spec.kind is HeadKind.COSINE,
        "meaning": _MEANINGS[spec.kind],
        "threshold_meaning": _THRESHOLDS[spec.kind],
        "code_type": codes,
        "checks": checks,
        "low": _literal(spec.low),
        "high": _literal(spec.high),
        "centre_type": str(narrowest_signed(np.array(spec.centre, dtype=np.int64))),
        "term_type": INT32 if all(sum_type(t.low, t.high) == INT32 for t in terms) else "int64_t",
        "limbs": bounds.limbs,
        "comparison_bits": bounds.comparison.bit_length(),
        "name_bytes": NAME_BYTES,
        "header": header_bytes(empty, 0, 0, 0),
        "least_bytes": len(header_bytes(empty, 0, 0, 0)) + 4 * len(spec.centre) + 4,
        "record_bytes": RECORD_HEAD_BYTES + 4 * spec.dimension,
        "state_bytes": 8 + 4 * spec.max_devices + spec.max_classes * (RECORD_HEAD_BYTES + 4 * spec.dimension),
        "numbers": _numbers,
    }
    environment = templates_in(Path(__file__).parent, of_blocks=True)
    return {
        f"{prefix}_head.{suffix}": environment.get_template(f"head.{suffix}.j2").render(context).encode()
        for suffix in ("h", "c")
    }


def _literal(value: int) -> str:
    """Of an int32_t; in parentheses where it is negative."""
    return f"({literal(value, INT32)})" if value < 0 else literal(value, INT32)


def _numbers(values: Sequence[int]) -> str:
    """The lines of an initializer."""
    lines = (values[i : i + _NUMBERS_PER_LINE] for i in range(0, len(values), _NUMBERS_PER_LINE))
    return ",\n    ".join(", ".join(literal(value, INT32) for value in line) for line in lines)
