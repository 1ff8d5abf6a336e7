"""The two forms of a network on the TCU: what must hold of them is noticed where it does not, and they print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

import pefslc.numeric.staircase as staircase_module
from builders import ModelBuilder, import_bytes, lower
from pefslc.diagnostics.errors import InternalError
from pefslc.geometry.shapes import Window
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import staircase_of
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, MaxHead, TransposeHead
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role, root_of
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.groups.text import print_groups, staircase_text, window_text
from pefslc.targets.tensil.groups.verify import faults_of_groups
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context, Form, rewritten
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.steps import Accumulate, AddOffset, ChannelAdd, LeakyRelu, Multiply, TwoSlopes
from pefslc.targets.tensil.words.text import print_words
from pefslc.targets.tensil.words.verify import faults_of_words
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

BOARD = load_architecture("custom_perf")
FP16 = BOARD.data_type


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> GroupProgram:
    """x -> conv a -> conv b; relu(b + a), then a maximum."""
    r = np.random.default_rng(0)
    m = ModelBuilder()
    x = m.quant(m.input([1, 4, 6, 6]), 0.25, 4)

    def conv(name: str) -> str:
        weight = m.weight(r.integers(-4, 5, (4, 4, 3, 3)) / 8)
        return m.node("Conv", name, weight, m.constant(r.integers(-4, 5, 4) / 32), pads=[1, 1, 1, 1])

    a = m.quant(m.node("Relu", conv(x)), 0.25, 4, signed=0)
    b = m.quant(m.node("Relu", m.node("Add", m.quant(conv(a), 0.25, 4), a)), 0.25, 4, signed=0)
    m.output(m.node("MaxPool", b, kernel_shape=[2, 2], strides=[2, 2]))
    return select(lower(import_bytes(m, tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def words(groups: GroupProgram) -> WordProgram:
    return place(groups, FP16)


def first_linear(program: GroupProgram) -> Group:
    return next(g for g in program.groups if isinstance(g.head, LinearHead))


def with_first(program: GroupProgram, change: Callable[[Group], Group]) -> GroupProgram:
    first = first_linear(program)
    return replace(program, groups=tuple(change(g) if g is first else g for g in program.groups))


def with_head(group: Group, **fields: object) -> Group:
    assert isinstance(group.head, LinearHead)
    return replace(group, head=replace(group.head, **fields))  # type: ignore[arg-type]


def with_tensor(program: GroupProgram, tensor: str, /, **fields: object) -> GroupProgram:
    changed = replace(program.tensors[tensor], **fields)  # type: ignore[arg-type]
    return replace(program, tensors={**program.tensors, tensor: changed})


WRONG_GROUPS: list[tuple[Callable[[GroupProgram], GroupProgram], str]] = [
    (lambda p: replace(p, groups=p.groups[::-1]), "which is not there yet"),
    (lambda p: replace(p, groups=(*p.groups, p.groups[-1])), "is made twice"),
    (lambda p: replace(p, groups=p.groups[:-1]), "is an output that nobody makes"),
    (lambda p: replace(p, tensors=dict(list(p.tensors.items())[:-1])), "has no record"),
    (
        lambda p: replace(p, tensors={**p.tensors, "more": p.tensors[p.inputs[0].tensor]}),
        "is neither an input nor made",
    ),
    (lambda p: with_tensor(p, p.inputs[0].tensor, name="other"), "its record says other"),
    (lambda p: with_tensor(p, p.inputs[0].tensor, low=1, high=0), "holds codes from 1 to 0"),
    (lambda p: with_tensor(p, p.inputs[0].tensor, role=Role.PACKED), "says what it is of"),
    (lambda p: with_tensor(p, p.inputs[0].tensor, of="more"), "says what it is of"),
    (lambda p: with_tensor(p, p.inputs[0].tensor, layout=Layout(4, 0, 6)), "is empty"),
    (lambda p: with_tensor(p, first_linear(p).result, layout=Layout(4, 6, 7)), "its layout is"),
    (lambda p: with_first(p, lambda g: with_head(g, bias=np.zeros(3, np.int64))), "biases for 4 channels"),
    (lambda p: with_first(p, lambda g: with_head(g, terms=())), "has no terms"),
    (
        lambda p: with_first(
            p,
            lambda g: with_head(g, terms=tuple(replace(t, weight=t.weight[:, :3]) for t in g.head.terms)),  # type: ignore[union-attr]
        ),
        "weights for 3 -> 4 channels",
    ),
    (
        lambda p: with_first(
            p,
            lambda g: with_head(g, terms=tuple(replace(t, weight=t.weight[..., :1]) for t in g.head.terms)),  # type: ignore[union-attr]
        ),
        "under a window of (3, 3)",
    ),
    (lambda p: with_first(p, lambda g: replace(g, head=TransposeHead(p.inputs[0].tensor), layout=g.layout)), ""),
    (
        lambda p: with_tensor(
            replace(
                p,
                groups=tuple(
                    replace(g, layout=Layout(5, 3, 3)) if isinstance(g.head, MaxHead) else g for g in p.groups
                ),
            ),
            p.groups[-1].result,
            layout=Layout(5, 3, 3),
        ),
        "a maximum changes the number of channels",
    ),
    (lambda p: with_first(p, lambda g: replace(g, steps=(AddTensor(p.inputs[0].tensor), *g.steps))), ""),
]


@pytest.mark.parametrize(("change", "fault"), WRONG_GROUPS)
def test_what_must_hold_of_groups_is_noticed(
    groups: GroupProgram, change: Callable[[GroupProgram], GroupProgram], fault: str
) -> None:
    """An empty fault: the change is legal, so that the rule next to it is not met by refusing everything."""
    assert faults_of_groups(groups) == []
    found = faults_of_groups(change(groups))
    assert any(fault in f for f in found) if fault else found == []


def test_an_added_tensor_has_the_layout_of_the_sum(groups: GroupProgram) -> None:
    pooled = groups.groups[-1]
    wrong = replace(groups, groups=(*groups.groups[:-1], replace(pooled, steps=(AddTensor(groups.inputs[0].tensor),))))
    assert any("of another layout" in fault for fault in faults_of_groups(wrong))


def test_a_transposition_keeps_the_elements(groups: GroupProgram) -> None:
    pooled = groups.groups[-1]
    wrong = replace(pooled, head=TransposeHead(groups.inputs[0].tensor))
    assert any(
        "number of elements" in f for f in faults_of_groups(replace(groups, groups=(*groups.groups[:-1], wrong)))
    )


def first_word(program: WordProgram) -> WordGroup:
    return next(group for group in program.groups if group.terms)


def with_offset(program: WordProgram, offset: int) -> WordProgram:
    """The first result stored with an offset that nobody knows."""
    first = first_word(program)
    tensors = {**program.tensors, first.result: replace(program.tensors[first.result], offset=offset)}
    return replace(with_word(program, steps=(*first.steps, AddOffset(offset))), tensors=tensors)


def with_word(program: WordProgram, **fields: object) -> WordProgram:
    first = next(g for g in program.groups if g.terms)
    changed = replace(first, **fields)  # type: ignore[arg-type]
    return replace(program, groups=tuple(changed if g is first else g for g in program.groups))


def wide(program: WordProgram, last: int) -> WordProgram:
    """The first group with a bias that leaves room for its positive sums up to `last` words beyond the data type."""
    first = next(g for g in program.groups if g.terms)
    return with_word(program, bias=np.full_like(first.bias, FP16.max_code - int(first.partial[1].max()) + last))


def adding(program: WordProgram, **fields: int) -> WordProgram:
    """The input is added, with these fields of the step."""
    return with_word(program, steps=(Accumulate(program.inputs[0].tensor, 0, 1, **fields),), sums=(0, 1))


WRONG_WORDS: list[tuple[Callable[[WordProgram], WordProgram], str]] = [
    (lambda p: replace(p, groups=p.groups[::-1]), "which is not there yet"),
    (lambda p: with_word(p, layout=Layout(4, 6, 7)), "its layout is"),
    (lambda p: with_word(p, bias=np.zeros(3, np.int64)), "biases for 4 channels"),
    (lambda p: with_word(p, bias=np.full(4, FP16.max_code + 1)), "is no word"),
    (lambda p: with_word(p, terms=()), "has no terms"),
    (lambda p: with_word(p, steps=(AddOffset(-3),)), "its steps add [-3] at last, and its tensor is stored with 0"),
    (lambda p: with_offset(p, -3), "reads %"),
    (lambda p: with_word(p, terms=tuple(replace(t, offset=5) for t in first_word(p).terms)), "as if it were stored"),
    (lambda p: wide(p, 0), ""),
    (lambda p: wide(p, 1), "a partial sum may leave"),
    (lambda p: with_word(p, partial=(np.ones(4, np.int64), np.ones(4, np.int64))), "lies outside of their bounds"),
    (lambda p: with_word(p, words=(1, 0)), "accumulators from 1 to 0"),
    (lambda p: with_word(p, steps=(Multiply(FP16.max_code + 1),)), "is none of"),
    (lambda p: with_word(p, steps=(LeakyRelu(0),)), "LeakyRelu by 0"),
    (lambda p: with_word(p, steps=(LeakyRelu(1),)), ""),
    (lambda p: with_word(p, steps=(TwoSlopes(255, 0),)), ""),
    (lambda p: with_word(p, steps=(TwoSlopes(256, 26),)), "slopes 256 above zero and 26 below"),
    (lambda p: with_word(p, steps=(TwoSlopes(26, 26),)), "slopes 26 above zero and 26 below"),
    (lambda p: with_word(p, steps=(ChannelAdd((0, 0, 0)),)), "3 words for 4 channels"),
    (lambda p: with_word(p, steps=(ChannelAdd((0, 0, 0, 0)),)), ""),
    (lambda p: with_word(p, sums=(0, 1)), "belong to groups that add"),
    (lambda p: with_word(p, steps=(Accumulate(p.inputs[0].tensor, 1, 0),), sums=(0, 1)), "adds words from 1 to 0"),
    (lambda p: with_word(p, steps=(Accumulate(p.inputs[0].tensor, 0, 1),), sums=(0, 1)), ""),
    (lambda p: adding(p, carried=5), "as if it carried 5, not 0"),
    (lambda p: adding(p, word=FP16.max_code + 1), "is none of"),
    (lambda p: adding(p, word=FP16.max_code), ""),
    (lambda p: with_word(p, carried=FP16.min_code - 1), "no word of"),
    (lambda p: with_word(p, carried=FP16.min_code), "as if it carried 0, not -32768"),
]


@pytest.mark.parametrize(("change", "fault"), WRONG_WORDS)
def test_what_must_hold_of_words_is_noticed(
    words: WordProgram, change: Callable[[WordProgram], WordProgram], fault: str
) -> None:
    assert faults_of_words(words, FP16, allow_overflow=False) == []
    found = faults_of_words(change(words), FP16, allow_overflow=False)
    assert any(fault in f for f in found) if fault else found == []


def test_sums_may_leave_the_data_type_where_that_is_allowed(words: WordProgram) -> None:
    assert faults_of_words(wide(words, 1), FP16, allow_overflow=True) == []


@dataclass(frozen=True)
class Spoils:
    """A rewrite with a fault."""

    name: ClassVar[str] = "spoils"
    needs: ClassVar[str] = "nothing"
    ensures: ClassVar[str] = "nothing"

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:  # noqa: ARG002
        return replace(program, groups=program.groups[:-1])


def test_a_rewrite_that_leaves_an_illegal_program_is_named(groups: GroupProgram) -> None:
    form = Form(lambda program, _: faults_of_groups(program), print_groups)
    with pytest.raises(InternalError, match=r"rewrite 'spoils' left an illegal program: .*nobody makes"):
        rewritten(groups, [Spoils()], Context(BOARD), form)
    assert rewritten(groups, [Spoils()], Context(BOARD).without("spoils"), form) is groups


def test_helpers_of_helpers_belong_to_a_value_of_the_network(groups: GroupProgram) -> None:
    tensor = groups.tensors[first_linear(groups).result]
    partial = tensor.helper(Role.PARTIAL, Layout(2, 6, 6), (-9, 9))
    packed = partial.helper(Role.PACKED, Layout(4, 6, 6), (-9, 9))
    tensors = {t.name: t for t in (tensor, partial, packed)}
    assert packed.name == f"{tensor.name}.partial.packed"
    assert root_of(tensors, packed.name) == tensor.name
    assert root_of({packed.name: packed, partial.name: partial}, packed.name) == tensor.name


def test_both_forms_print_every_group_and_port(groups: GroupProgram, words: WordProgram) -> None:
    for text, program in ((print_groups(groups), groups), (print_words(words), words)):
        for group in program.groups:
            assert f"\n%{group.result}: " in text
        assert f'input "{groups.inputs[0].name}" = %{groups.inputs[0].tensor}: [4, 6, 6] codes -8..7' in text
        assert text.endswith("\n")
    assert print_groups(groups) == print_groups(groups)


def test_thresholds_that_are_too_many_to_hold_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = Quantizer(Quantization(bits=4, signed=True, scale=Scale((Fraction(1), Fraction(1, 3)))))
    listed = staircase_of(Scale((Fraction(1, 4),)), (), quantizer, -40, 40, 2)
    assert staircase_text(listed).startswith("2 channels -40..40 -> -8..7 thresholds [2,15] -29..27 #")
    monkeypatch.setattr(staircase_module, "_MOST_LISTED", 0)
    unlisted = staircase_of(Scale((Fraction(1, 4),)), (), quantizer, -40, 40, 2)
    assert staircase_text(unlisted) == "2 channels -40..40 -> -8..7 thresholds [2,15]"
    assert not unlisted.is_listed


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, ""),
        ({"strides": (2, 1)}, " strides=2,1"),
        ({"strides": (1, 2)}, " strides=1,2"),
        ({"pads": (0, 0, 0, 3)}, " pads=0,0,0,3"),
        ({"dilations": (1, 2)}, " dilations=1,2"),
        ({"input_dilations": (2, 1)}, " input_dilations=2,1"),
        ({"strides": (2, 2), "pads": (1, 0, 1, 0)}, " strides=2,2 pads=1,0,1,0"),
    ],
)
def test_the_text_of_a_window_names_what_is_not_usual(fields: dict[str, tuple[int, ...]], text: str) -> None:
    assert window_text(Window(kernel=(3, 2), **fields)) == f"3x2{text}"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Accumulate("t", -8, 7), "add %t -8..7"),
        (Accumulate("t", -8, 7, word=512), "add %t times 512 -8..7"),
        (Accumulate("t", -8, 7, ceiling=5), "add %t -8..7, at most 5"),
        (Accumulate("t", -8, 7, carried=3), "add %t -8..7, which carries 3"),
        (ChannelAdd((4, -2)), "add per channel -2..4"),
        (Multiply(3), "multiply 3"),
    ],
)
def test_steps_read_like_this(words: WordProgram, step: Accumulate | ChannelAdd | Multiply, text: str) -> None:
    only = replace(words.groups[0], steps=(step,))
    assert f"    {text}\n" in print_words(replace(words, groups=(only,)))
