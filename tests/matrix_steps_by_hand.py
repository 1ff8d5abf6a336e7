"""Matrix steps and SIMD steps on one word, in exact rationals."""

from __future__ import annotations

from fractions import Fraction

from pefslc.numeric.rounding import round_fraction
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan
from pefslc.targets.tensil.matrix.matrix_steps import AddWord, Diagonal, DiagonalAgain, MatrixStep
from pefslc.targets.tensil.words.steps import AddOffset, Maximum, Minimum, Multiply, RawStep

FP8, FP16 = DataType["FP8BP4"], DataType["FP16BP8"]


def clamp(word: int, data_type: DataType) -> int:
    return min(max(word, data_type.min_code), data_type.max_code)


def by_hand(steps: tuple[MatrixStep, ...], word: int, data_type: DataType, addend: int = 0) -> int:
    """The steps on one word, in exact rationals."""
    read = 0
    for step in steps:
        if isinstance(step, AddWord):
            word += step.word
        elif isinstance(step, DiagonalAgain):
            word += clamp(round_fraction(Fraction(read * step.word, data_type.one) + step.bias), data_type)
        elif isinstance(step, Diagonal):
            read = word
            word = round_fraction(Fraction(word * step.word, data_type.one) + step.bias)
        else:
            factor = data_type.one if step.word is None else step.word
            word += clamp(round_fraction(Fraction(addend * factor, data_type.one) + step.bias), data_type)
        word = clamp(word, data_type)
    return word


def holds_words_only(plan: MatrixPlan, data_type: DataType) -> bool:
    """Whether the rows of all steps can be stored."""
    rows = [step.rows(3, data_type.one) for step in plan.alone]
    return all(data_type.min_code <= row.min() <= row.max() <= data_type.max_code for row in rows)


def wanted(steps: tuple[RawStep, ...], word: int, data_type: DataType) -> int:
    """Shift, clips and an offset, in exact rationals."""
    for step in steps:
        match step:
            case Multiply():
                word = round_fraction(Fraction(word * step.word, data_type.one))
            case Maximum():
                word = max(word, step.word)
            case Minimum():
                word = min(word, step.word)
            case AddOffset():
                word += step.word
    return word
