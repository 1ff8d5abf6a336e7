"""Instruction selection: the integer graph becomes groups, each of which one pass through the accumulators computes.

A group has a head that fills accumulators (a sum of convolutions, or a maximum) and steps that change them in place
(requantize, clamp, add another tensor). A step joins the group of its operand when nobody else reads that operand.
Dense, pools, Concat, Rescale, Pad and Upsample are convolutions: with the kernel as large as the image, with diagonal
weights. Reshape, Transpose and the choice of channels are no groups: who reads their results finds the elements
elsewhere (`arrangement`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from pefslc.analysis.ranges import result_range
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph, GraphOutput
from pefslc.ir.integer import Clamp, Conv2d, Dense, Lookup, Product, Requantize, Rescale, Round, Sum, SumPool
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample
from pefslc.ir.value import IntArray, Op, Value
from pefslc.targets.tensil.groups.arrangement import Arrangement, is_arrangement, is_crop
from pefslc.targets.tensil.groups.expanded_weights import dense_weight, diagonal
from pefslc.targets.tensil.groups.group import (
    AddTensor,
    Group,
    Limit,
    LinearHead,
    MaxHead,
    Requantization,
    Rounding,
    Step,
    Term,
    Weights,
)
from pefslc.targets.tensil.groups.group_program import GroupProgram, Port, StoredTensor
from pefslc.targets.tensil.groups.host_movement import HostMove, host_view, moves_of, path_to
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["select"]

_POINT = Window(kernel=(1, 1))


def select(graph: Graph) -> GroupProgram:
    """The groups of an integer graph. Raises CompileError, with every fault, for what the TCU lowering cannot do."""
    selector = _Selector(graph)
    for op in graph.ops:
        selector.visit(op)
    if selector.problems:
        raise CompileError.of(selector.problems)
    return selector.finish()


@dataclass
class _Selector:
    """`groups` by the name of the tensor that they store. A reshape stores nothing: its result is another name.

    arranged    values whose elements lie in the tensor that `storage` names in another order
    host_moves  how the host moves elements of an input before it stores them, of an output when it has read them
    """

    graph: Graph
    groups: dict[str, Group] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    storage: dict[str, str] = field(default_factory=dict)
    arranged: dict[str, Arrangement] = field(default_factory=dict)
    host_moves: dict[str, tuple[HostMove, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.shared = _shared_tensors(self.graph)
        self.producers = self.graph.producers()
        self.readers = Counter(v.name for op in self.graph.ops for v in op.operands)
        self.readers.update(o.value.name for o in self.graph.outputs)
        self.moved = {op.result.name for op in self.graph.ops if is_arrangement(op)}
        for graph_input in self.graph.inputs:
            view = host_view(self.graph, graph_input.value) if graph_input.value.type.shape[:1] == (1,) else None
            if view is None:
                self._collect(graph_input.value, lambda value: self._store(value, Layout.of(value.type.shape)))
            else:
                self._store(graph_input.value, view.as_read.stored)
                if not view.as_read.is_natural:
                    self.arranged[graph_input.value.name] = view.as_read
                self.host_moves[graph_input.value.name] = view.moves

    def finish(self) -> GroupProgram:
        inputs = tuple(
            Port(i.name, i.value, self.storage[i.value.name], self.host_moves.get(i.value.name, ()))
            for i in self.graph.inputs
        )
        outputs = [port for o in self.graph.outputs if (port := self._output(o)) is not None]
        if self.problems:
            raise CompileError.of(self.problems)
        tensors = {name: StoredTensor(name, layout, *self.ranges[name]) for name, layout in self.layouts.items()}
        program = GroupProgram(inputs, tuple(outputs), (), tensors, self.storage)
        return program.with_groups(self.groups.values())

    def _output(self, output: GraphOutput) -> Port | None:
        """Where an output lies: as it is; or as the value that a movement makes it of, which the host does."""
        value, moves = output.value, tuple[HostMove, ...]()
        if value.name in self.arranged and self.arranged[value.name].channels is None:
            source, path = path_to(value, self.producers)
            if path and source.name not in self.host_moves:
                value, moves = source, moves_of(path, source.type.shape)
        self._collect(value, self._settle)
        if value.name in self.failed:
            return None
        return Port(output.name, output.value, self.storage[value.name], moves)

    def visit(self, op: Op) -> None:
        """Select one operation; faults are collected, and what depends on a failed tensor is passed over."""
        if any(v.name in self.failed for v in op.operands):
            self.failed.add(op.result.name)
        else:
            self._collect(op.result, lambda _: self._visit(op))

    def _collect(self, value: Value, action: Callable[[Value], None]) -> None:
        try:
            self._check_shape(value)
            action(value)
        except CompileError as e:
            self.problems.extend(e.problems)
            self.failed.add(value.name)

    def _check_shape(self, value: Value) -> None:
        shape = value.type.shape
        if len(shape) not in (2, 3, 4) and value.name not in self.moved:
            raise CompileError(
                Code.TCU_UNSUPPORTED, f"a tensor of shape {list(shape)} is not supported on the TCU", at=value.origin
            )
        if shape[0] != 1:
            raise CompileError(
                Code.TCU_UNSUPPORTED,
                f"a first axis of {shape[0]} is not supported on the TCU where other tensors have another",
                at=value.origin,
                hint="give all inputs the same batch",
            )

    def _visit(self, op: Op) -> None:
        if not (is_arrangement(op) or isinstance(op, Dense)):
            for value in op.operands:
                if value.name in self.arranged and self.arranged[value.name].channels is None:
                    self._settle(value)
        match op:
            case Conv2d():
                weight = dense_weight(op.weight.data, op.groups)
                head = LinearHead((self._term(op.input, weight, op.window),), _bias(op))
                self._start(op, head, Layout.of(op.result.type.shape))
            case Dense():
                layout, weight = self.layouts[self.storage[op.input.name]], op.weight.data
                if op.input.name in self.arranged:
                    weight = np.zeros((len(weight), layout.channels * layout.pixels), dtype=np.int64)
                    weight[:, self.arranged[op.input.name].positions.reshape(-1)] = op.weight.data
                weight = weight.reshape(-1, layout.channels, layout.height, layout.width)
                term = Term(self.storage[op.input.name], weight, Window(kernel=(layout.height, layout.width)))
                self._start(op, LinearHead((term,), _bias(op)), Layout.of(op.result.type.shape))
            case SumPool(factors=IntArray()):
                raise CompileError(
                    Code.TCU_UNSUPPORTED,
                    "a mean over windows of different sizes is not supported on the TCU",
                    at=op.result.origin,
                    hint="use count_include_pad=True and ceil_mode=False, or no padding; or --target c",
                )
            case SumPool():
                weight = diagonal(self._layout(op.input).channels, op.window.kernel)
                head = _unbiased(self._term(op.input, weight, op.window))
                self._start(op, head, Layout.of(op.result.type.shape))
            case Rescale():
                self._start(op, self._copy(op.input, op.factor), self._layout(op.input))
            case Concat():
                self._start(op, _unbiased(*self._concat_terms(op)), Layout.of(op.result.type.shape))
            case MaxPool():
                self._settle(op.input)
                self._start(op, MaxHead(self.storage[op.input.name], op.window), Layout.of(op.result.type.shape))
            case Requantize():
                if op.staircase.channels > 1 and self._layout(op.input).channels != op.staircase.channels:
                    raise CompileError(
                        Code.TCU_UNSUPPORTED,
                        "Quant per feature after Flatten is not supported on the TCU",
                        at=op.result.origin,
                    )
                self._join(op, op.input, Requantization(op.staircase, op.result.type.channels))
            case Round():
                codes = op.input.type.codes
                self._join(op, op.input, Rounding(op.line, codes.low, codes.high))
            case Clamp():
                self._join(op, op.input, Limit(op.low, op.high))
            case Sum():
                self._add(op)
            case Slice() if is_crop(op):
                self._crop(op)
            case Reshape() | Transpose() | Slice():
                self._rearrange(op)
            case Lookup() | Product():
                raise CompileError(
                    Code.TCU_UNSUPPORTED,
                    f"the TCU has no instruction for {'a table' if isinstance(op, Lookup) else 'a product of tensors'}",
                    at=op.result.origin,
                    hint="use activations that rise (ReLU, Clip, LeakyRelu with a positive slope) and no gates; or "
                    "--target c",
                )
            case Upsample():
                self._upsample(op)
            case Pad():
                self._pad(op)
            case _:
                raise AssertionError(op)

    # --- groups --------------------------------------------------------------------------------------------------

    def _start(self, op: Op, head: LinearHead | MaxHead, layout: Layout) -> None:
        self._put(Group(op.result.name, layout, head, (), (op.result.name,), op.result.origin), op.result)

    def _join(self, op: Op, value: Value, step: Step) -> None:
        """Add `step` to the group that made `value`, or start a group that copies `value`."""
        stored = self.storage[value.name]
        group = self.groups.get(stored)
        if group is None or stored in self.shared or value.name in self.arranged:
            group = Group(op.result.name, self._layout(value), self._copy(value), (), (), op.result.origin)
        else:
            del self.groups[stored]
        joined = replace(group, result=op.result.name, steps=(*group.steps, step), ops=(*group.ops, op.result.name))
        self._put(joined, op.result)

    def _add(self, op: Sum) -> None:
        """The addend that was made last carries the sum, so that the other is already stored."""
        lhs, rhs = op.lhs, op.rhs
        for value in (lhs, rhs):
            self._settle(value)
        if self._layout(lhs) != self._layout(rhs):
            raise CompileError(
                Code.TCU_UNSUPPORTED,
                "Add of a flattened tensor and one that was never an image is not supported on the TCU",
                at=op.result.origin,
                hint="add before Flatten",
            )
        if self.storage[lhs.name] == self.storage[rhs.name]:
            self._start(op, self._copy(lhs, 2), self._layout(lhs))
            return
        order = list(self.groups)
        made = [order.index(self.storage[v.name]) if self.storage[v.name] in self.groups else -1 for v in (lhs, rhs)]
        carrier, other = (lhs, rhs) if made[0] > made[1] else (rhs, lhs)
        self._join(op, carrier, AddTensor(self.storage[other.name], _known_range(op)))

    def _put(self, group: Group, result: Value) -> None:
        self.groups[group.result] = group
        self._store(result, group.layout)

    def _store(self, value: Value, layout: Layout) -> None:
        self.storage[value.name] = value.name
        self.layouts[value.name] = layout
        codes = value.type.codes
        self.ranges[value.name] = (codes.low, codes.high)

    def _rearrange(self, op: Reshape | Transpose | Slice) -> None:
        source, stored = op.input.name, self.layouts[self.storage[op.input.name]]
        before = self.arranged.get(source) or Arrangement.of(stored, op.input.type.shape)
        after = before.after(op)
        self.storage[op.result.name] = self.storage[source]
        if not after.is_natural:
            self.arranged[op.result.name] = after

    def _settle(self, value: Value) -> None:
        """See to it that the value is stored as it is, by a copy where its elements lie in another order."""
        if value.name not in self.arranged:
            return
        arrangement = self.arranged[value.name]
        found = arrangement.as_convolution if arrangement.channels is None else None
        head = self._copy(value) if found is None else _unbiased(Term(self.storage[value.name], *found))
        group = Group(value.name, Layout.of(value.type.shape), head, (), (value.name,), value.origin)
        del self.arranged[value.name]
        if self.readers[value.name] > 1:
            self.shared.add(value.name)
        self._put(group, value)

    def _crop(self, op: Slice) -> None:
        """A copy by a convolution of one tap, whose padding is negative."""
        weight = np.eye(op.input.type.channels, dtype=np.int64)[op.index[1]][:, :, None, None]
        window = Window(kernel=(1, 1), strides=(op.steps[2], op.steps[3]), pads=(-op.begins[2], -op.begins[3], 0, 0))
        self._start(op, _unbiased(self._term(op.input, weight, window)), Layout.of(op.result.type.shape))

    def _upsample(self, op: Upsample) -> None:
        """A convolution over the pixels, zeros between them, by as many ones as copies: each result sees one pixel."""
        rows, columns = op.factors[1:][-2:]  # a sequence is an image of one row
        pads = rows - 1, columns - 1, rows - 1, columns - 1
        window = Window(kernel=(rows, columns), pads=pads, input_dilations=(rows, columns))
        head = _unbiased(self._term(op.input, diagonal(self._layout(op.input).channels, window.kernel), window))
        self._start(op, head, Layout.of(op.result.type.shape))

    def _pad(self, op: Pad) -> None:
        """A copy by a convolution of one tap, whose padding is code 0."""
        if not op.is_spatial or op.input.type.codes.zero_point:
            raise CompileError(
                Code.TCU_UNSUPPORTED,
                "padding of channels, or with a code other than 0, is not supported on the TCU",
                at=op.result.origin,
                hint="pad rows and columns of a tensor with zero point 0",
            )
        (top, left), (bottom, right) = op.before[2:], op.after[2:]
        window = Window(kernel=(1, 1), pads=(top, left, bottom, right))
        head = _unbiased(self._term(op.input, diagonal(self._layout(op.input).channels, (1, 1)), window))
        self._start(op, head, Layout.of(op.result.type.shape))

    # --- terms ---------------------------------------------------------------------------------------------------

    def _layout(self, value: Value) -> Layout:
        """The value's layout: that of the stored tensor, or of the channels of it that were chosen."""
        stored = self.layouts[self.storage[value.name]]
        chosen = self.arranged[value.name].channels if value.name in self.arranged else None
        return stored if chosen is None else replace(stored, channels=len(chosen))

    def _term(self, value: Value, weight: Weights, window: Window) -> Term:
        """A convolution of a value: of the stored tensor, with the weights' columns in the order of its channels."""
        if value.name in self.arranged:
            order = self.arranged[value.name].channels
            if order is None:
                raise CompileError(
                    Code.TCU_UNSUPPORTED,
                    "Reshape, Transpose and Slice inside of a network that do more than choose and shuffle channels, "
                    "leave out rows and columns, or turn blocks of pixels into channels or back, are not supported on "
                    "the TCU",
                    at=value.origin,
                    hint="at an input (the same for all that read it), at an output and before a dense layer any "
                    "Reshape and Transpose is; or --target c",
                )
            stored = self.layouts[self.storage[value.name]]
            columns = np.zeros((len(weight), stored.channels, *weight.shape[2:]), dtype=np.int64)
            columns[:, order] = weight
            weight = columns
        return Term(self.storage[value.name], weight, window)

    def _copy(self, value: Value, factor: int = 1) -> LinearHead:
        """The stored tensor, as it lies, times `factor`."""
        return _unbiased(self._term(value, diagonal(self._layout(value).channels, (1, 1)) * factor, _POINT))

    def _concat_terms(self, op: Concat) -> list[Term]:
        if op.axis != 1:
            raise CompileError(
                Code.TCU_UNSUPPORTED,
                f"Concat along axis {op.axis} is not supported on the TCU",
                at=op.result.origin,
                hint="concatenate channels",
            )
        terms, first = [], 0
        for value in op.inputs:
            if self._layout(value) != Layout.of(value.type.shape):
                raise CompileError(
                    Code.TCU_UNSUPPORTED,
                    "Concat of flattened or transposed tensors is not supported on the TCU",
                    at=op.result.origin,
                    hint="concatenate channels, and pad with zeros; or --target c",
                )
            channels = value.type.channels
            weight = np.zeros((op.result.type.channels, channels, 1, 1), dtype=np.int64)
            weight[first : first + channels, :, 0, 0] = np.eye(channels, dtype=np.int64)
            terms.append(self._term(value, weight, _POINT))
            first += channels
        return terms


def _shared_tensors(graph: Graph) -> set[str]:
    """The tensors that more than one operation reads, or an output: no step may change them in place."""
    made_from: dict[str, str] = {}
    moves = [op for op in graph.ops if is_arrangement(op)]
    for op in moves:
        made_from[op.result.name] = made_from.get(op.input.name, op.input.name)
    readers = Counter(made_from.get(v.name, v.name) for op in graph.ops if not is_arrangement(op) for v in op.operands)
    outputs = {made_from.get(o.value.name, o.value.name) for o in graph.outputs}
    return outputs | {name for name, count in readers.items() if count > 1}


def _known_range(op: Sum) -> tuple[int, int] | None:
    """The codes of a sum, where they are known to be fewer than its operands' bounds say."""
    codes = op.result.type.codes
    least, most = result_range(op)
    return (codes.low, codes.high) if least < codes.low or codes.high < most else None


def _unbiased(*terms: Term) -> LinearHead:
    return LinearHead(terms, np.zeros(len(terms[0].weight), dtype=np.int64))


def _bias(op: Conv2d | Dense) -> Weights:
    return np.zeros(op.weight.shape[0], dtype=np.int64) if op.bias is None else op.bias.data
