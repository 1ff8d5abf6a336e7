"""Functions that turn once, behind accumulators of any width: two staircases whose sum they are.

    code(a) = before(a) + after(a)

Of few steps, each channel's row is found as its runs of equal codes; what comes before its lowest code, or its highest,
is one staircase, the rest the other. Of many, one proof does for all channels, on the function's own argument x: where
it turns (`turn`), it is parted into a function that only falls and one that only rises.

    before = q(f(min(x, turn))),  after = q(f(max(x, turn))) - q(f(turn))

Those are chains like any other: their steps are found as a Tanh's are, and targets implement them as they do a Tanh.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from pefslc.numeric.chain import Chains
from pefslc.numeric.enclosure import FloatArithmetic, Interval, enclose
from pefslc.numeric.expression import Call, Function, X, number, substitute
from pefslc.numeric.function_of_line import function_of_line
from pefslc.numeric.quantizer import Quantizer, chain_value
from pefslc.numeric.runs import Runs, staircase_of_runs
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import (
    Affine,
    ClipStage,
    FunctionStage,
    LeakyReluStage,
    Stage,
    apply_stages,
    chain_expression,
    direction,
    may_turn,
)
from pefslc.numeric.staircase import MOST_STEPS, Staircase, is_uniform, staircase_of
from pefslc.numeric.table import codes_within
from pefslc.numeric.turn import turn_of

__all__ = ["MANY_STEPS", "parted_staircases", "turning_staircases"]

MANY_STEPS = 256  # up to 8 bits the runs are few, and a table takes little
_EXACT_IN_FLOAT64 = 1 << 52
_FIRST_BLOCKS = 1 << 9
_MOST_BLOCKS = 1 << 21  # a second
_MOST_DECISIONS = 1 << 12  # a second, or a few
_ABS = Call(Function.ABS, (X,))

_Parts = tuple[tuple[Stage, ...], tuple[Stage, ...], int]


def turning_staircases(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain_low: int, domain_high: int, channels: int
) -> tuple[Staircase, Staircase] | None:
    """Two staircases whose sum is the table, where every channel turns once at most, as SiLU does; else None.

    For domains of any size: None, too, where a channel would take too many evaluations, or the staircases too many
    steps.
    """
    steps = quantizer.quantization.high - quantizer.quantization.low
    if steps > MOST_STEPS:
        return None
    if steps >= MANY_STEPS:
        parted = parted_staircases(scale, stages, quantizer, domain_low, domain_high, channels)
        if parted is not None:
            return parted
    told_apart = 1 if is_uniform(scale, stages, quantizer) else channels
    parts: list[tuple[Runs, Runs]] = []
    for c in range(told_apart):
        runs = _runs(scale.channel(c), stages, quantizer, (domain_low, domain_high), c)
        found = None if runs is None else runs.parts()
        if found is None:
            return None
        parts.append(found)
    before, after = (staircase_of_runs(list(side)) for side in zip(*parts, strict=True))
    assert before is not None, "what comes before the turn is monotone"
    assert after is not None, "what comes after the turn is monotone"
    return before, after


def parted_staircases(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain_low: int, domain_high: int, channels: int
) -> tuple[Staircase, Staircase] | None:
    """The same as chains; None where the function is not known to turn once, in all channels at the same place."""
    domain = domain_low, domain_high
    parts = _bent(stages, quantizer, channels) or _parted(scale, stages, quantizer, domain, channels)
    if parts is None or any(direction(part, c) is None for part in parts[:2] for c in range(channels)):
        return None
    before, after = (staircase_of(scale, part, quantizer, *domain, channels) for part in parts[:2])
    return before, after.lowered(parts[2])


def _bent(stages: Sequence[Stage], quantizer: Quantizer, channels: int) -> _Parts | None:
    """(stages before the turn, stages after it, the code there), of two lines that meet at 0."""
    at = next((i for i, stage in enumerate(stages) if may_turn(stage)), None)
    if at is None:
        return None
    match stages[at]:
        case LeakyReluStage() as leaky:
            slopes = leaky.alphas
        case FunctionStage(expression) if expression == _ABS:
            slopes = (Fraction(-1),)
        case _:
            return None
    behind = stages[at + 1 :]
    codes = {quantizer.code_of(chain_value(behind, Fraction(0), c), c) for c in range(channels)}
    if len(codes) > 1:
        return None
    below = (*stages[:at], ClipStage(None, Fraction(0)), Affine.product(slopes), *behind)
    above = (*stages[:at], ClipStage(Fraction(0), None), *behind)
    return below, above, codes.pop()


def _parted(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain: tuple[int, int], channels: int
) -> _Parts | None:
    """The same of one function of a line."""
    told_apart = 1 if is_uniform(scale, stages, quantizer) else channels
    chains = Chains(
        scale=scale, stages=tuple(stages), quantizer=quantizer, domain_low=domain[0], domain_high=domain[1],
        channels=told_apart, levels=range(0),
    )  # fmt: skip
    line = function_of_line(chains)
    if line is None:
        return None
    function, before = line.function, stages[: line.at]
    ends = [apply_stages(before, scale.channel(c) * a, c) for c in range(told_apart) for a in domain]
    turn = turn_of(function, quantizer, ends)
    if turn is None:
        return None
    falling = substitute(function, Call(Function.MAX, (Call(Function.MIN, (X, number(turn.at))), number(turn.first))))
    rising = substitute(function, Call(Function.MIN, (Call(Function.MAX, (X, number(turn.at))), number(turn.last))))
    parts = [(*before, FunctionStage(e, sign)) for e, sign in ((falling, turn.before), (rising, -turn.before))]
    code = quantizer.code_of(chain_value((FunctionStage(function),), turn.at, 0), 0)
    return parts[0], parts[1], code


def _runs(
    step: Fraction, stages: Sequence[Stage], quantizer: Quantizer, domain: tuple[int, int], channel: int
) -> Runs | None:
    """One channel's row without a look at every code: a block of codes whose bounds leave one code is not divided.

    None where that takes more than _MOST_BLOCKS, or _MOST_DECISIONS by digits.
    """
    if not -_EXACT_IN_FLOAT64 < domain[0] <= domain[1] < _EXACT_IN_FLOAT64:
        return None
    arithmetic, expression = FloatArithmetic(), chain_expression(stages, channel)
    width = -(-(domain[1] - domain[0] + 1) // _FIRST_BLOCKS)
    first = np.arange(domain[0], domain[1] + 1, width, dtype=np.int64)
    last = np.minimum(first + width - 1, domain[1])
    starts, codes, blocks, decisions = [first[:0]], [first[:0]], 0, 0
    while len(first):
        points = Interval(first.astype(np.float64), last.astype(np.float64))
        x = arithmetic.apply(Function.MUL, [points, arithmetic.number(step)])
        found = codes_within(enclose(expression, x, arithmetic), quantizer, channel)
        least, most = (np.array(np.broadcast_to(bound, first.shape)) for bound in found)
        doubtful = np.flatnonzero((least != most) & (first == last))
        blocks, decisions = blocks + len(first), decisions + len(doubtful)
        if blocks > _MOST_BLOCKS or decisions > _MOST_DECISIONS:
            return None
        for i in doubtful.tolist():
            least[i] = most[i] = quantizer.code_of(chain_value(stages, step * int(first[i]), channel), channel)
        done = least == most
        starts.append(first[done])
        codes.append(least[done])
        first, last = first[~done], last[~done]
        middle = (first + last) // 2
        first, last = np.concatenate([first, middle + 1]), np.concatenate([middle, last])
    every, code = np.concatenate(starts), np.concatenate(codes)
    order = np.argsort(every)
    every, code = every[order], code[order]
    changes = np.concatenate([[True], np.diff(code) != 0])
    return Runs(every[changes], code[changes], domain[1])
