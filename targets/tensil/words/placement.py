"""Placement: where codes sit in the TCU's words, and the raw arithmetic that follows.

A code q placed at exponent e is the raw word q * 2^e. Weights at e_w and activations at e_x give products at
e_x + e_w - p (p: the binary point): where that is not negative, the MAC rounds nothing (docs/tcu.md).
Every tensor starts compact (e = 0), inputs and outputs natural (the TCU's number is the value) where they fit; a tensor
moves up where its readers' weights are too wide to make up for p, an accumulator where a fine bias needs the bits.
"""

from __future__ import annotations

from collections.abc import Iterable

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.targets.tensil.groups.group_program import GroupProgram, Port, Role
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_fits import ChannelFits
from pefslc.targets.tensil.words.group_placement import Elsewhere, GroupPlacer
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import Outcome, WordProgram, WordTensor
from pefslc.targets.tensil.words.word_range import fits_word

__all__ = ["place"]


def place(
    program: GroupProgram,
    data_type: DataType,
    *,
    allow_overflow: bool = False,
    fits: ChannelFits | None = None,
    any_words: bool = False,
) -> WordProgram:
    """Exponents for every tensor and raw words for every group. Raises CompileError with every fault.

    fits       what was searched before, for another form of the same network
    any_words  whether any words will do that are off by 1 at most, not only the best that are found, and no list of
               what differs is wanted: so it is for all groups behind one that has no place
    """
    exponents = _first_exponents(program, data_type)
    movable = {port.tensor for port in program.inputs}
    _check_inputs(program.inputs, data_type)
    needed: dict[str, int] = {}
    fits = fits or ChannelFits(data_type)
    while True:
        groups: list[WordGroup] = []
        outcomes: list[Outcome] = []
        problems: list[Problem] = []
        try:
            for group in program.groups:
                try:
                    need = needed.get(group.result, 0)
                    free, any_will_do = movable - needed.keys(), any_words or bool(problems)
                    placer = GroupPlacer(
                        group, program, exponents, data_type, allow_overflow, free, need, fits, any_words=any_will_do
                    )
                    placed, outcome = placer.place()
                    groups.append(placed)
                    outcomes.append(outcome)
                except CompileError as e:
                    problems.extend(e.problems)
        except Elsewhere as other:
            exponents[other.tensor] = needed[other.tensor] = other.exponent
            continue
        if problems:
            raise CompileError.of(problems)
        tensors = {name: WordTensor(stored, exponents[name]) for name, stored in program.tensors.items()}
        return WordProgram(program.inputs, program.outputs, tuple(groups), tensors, tuple(outcomes))


def _check_inputs(inputs: Iterable[Port], data_type: DataType) -> None:
    """Raise CompileError where the codes of an input are wider than a word."""
    codes = [(port.value.origin, port.value.type.codes) for port in inputs]
    problems = [
        Problem(
            Code.TCU_WORD,
            f"the input needs {bits_for_range(c.low, c.high)} bits, {data_type.value} has {data_type.width_bits}",
            at=origin,
            hint="use fewer bits for the input, or a wider data type",
        )
        for origin, c in codes
        if not fits_word(c.low, c.high, data_type)
    ]
    if problems:
        raise CompileError.of(problems)


def _first_exponents(program: GroupProgram, data_type: DataType) -> dict[str, int]:
    """Inputs and outputs natural where the whole range of codes fits, everything else compact."""
    exponents = dict.fromkeys(program.tensors, 0)
    transposed = {stored.of: name for name, stored in program.tensors.items() if stored.role is Role.TRANSPOSED}
    for port in (*program.inputs, *program.outputs):
        codes = port.value.type.codes
        if codes.scale.per_channel or codes.zero_point:
            continue
        step = power_of_two_exponent(codes.scale.step)
        # Above the binary point, no weight could bring a product down to the accumulators' exponent 0.
        if step is None or not 0 <= (natural := data_type.binary_point + step) <= data_type.binary_point:
            continue
        if fits_word(codes.low << natural, codes.high << natural, data_type):
            exponents[port.tensor] = natural
            if port.tensor in transposed:
                exponents[transposed[port.tensor]] = natural
    return exponents
