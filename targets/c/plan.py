"""From the integer graph to steps: which operations are done in one loop, where tensors lie, in which types.

Convolutions run on channels-last tensors; the interface is NCHW. A tensor is copied to the other layout where someone
needs it, at most once, and never where both are the same bytes. Requantize, Clamp, Rescale and Sum join the loop that
makes their operand when they are its only reader, so accumulators are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from pefslc.codes import Code
from pefslc.diagnostics import CompileError, Problem
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Clamp, Conv2d, Dense, IntegerOp, Lookup, Product, Requantize, Rescale, Sum, SumPool
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Transpose
from pefslc.ir.value import Op, Value
from pefslc.shapes import Shape, element_count
from pefslc.targets.c.copies import copy_step, pad_step
from pefslc.targets.c.dots import PIXEL_TILE, TAP_ALIGNMENT, accumulator_type, packed_rows, product_type
from pefslc.targets.c.stages import ClampStage, LookupStage, ScaleStage, Stage, combining_stage, requantize_stage
from pefslc.targets.c.steps import DepthwiseStep, DotStep, MapStep, PoolStep, Program, Step
from pefslc.targets.c.storage import (
    Buffer,
    Layout,
    Place,
    Tensor,
    checked_elements,
    narrowest,
    narrowest_signed,
    same_order,
    sum_type,
)

__all__ = ["plan_program"]

Codes = NDArray[np.int64]

_FUSABLE = (Requantize, Lookup, Clamp, Rescale, Sum, Product)


def plan_program(graph: Graph) -> Program:
    """The steps for an integer graph. Raises CompileError with every operation that cannot be done."""
    return _Planner(graph).program()


@dataclass(frozen=True, slots=True)
class _Chain:
    """An operation and the stages after it, not yet emitted; where `root` is None, stages on `tensor` in memory."""

    root: Conv2d | Dense | SumPool | MaxPool | None
    tensor: Tensor | None
    ops: tuple[Op, ...]
    stages: tuple[Stage, ...]


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.tensors: dict[tuple[str, Layout], Tensor] = {}
        self.views: dict[str, Value] = {}  # result of a Reshape -> the value whose elements it has
        self.pending: dict[str, _Chain] = {}
        self.implementation: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.macs = 0
        self.readers = {name: len(ops) for name, ops in graph.consumers().items()}
        for output in graph.outputs:
            self.readers[output.value.name] = self.readers.get(output.value.name, 0) + 1
        self.next_reader = {name: ops[0] for name, ops in graph.consumers().items()}
        self.homes = self._output_homes()

    def program(self) -> Program:
        inputs = []
        for i, graph_input in enumerate(self.graph.inputs):
            tensor = self._new(graph_input.value, Layout.ROWS, Place.INPUT, f"input{i}")
            inputs.append(tensor)
        for op in self.graph.ops:
            try:
                self._plan(op)  # type: ignore[arg-type]  # an integer graph holds integer operations
            except CompileError as e:
                self.problems.extend(e.problems)
        if self.problems:
            raise CompileError.of(self.problems)
        outputs = tuple(self._output(i, o.value) for i, o in enumerate(self.graph.outputs))
        return Program(tuple(self.steps), tuple(inputs), outputs, self.implementation, self.macs)

    # --- tensors -------------------------------------------------------------------------------------------------

    def _output_homes(self) -> dict[str, int]:
        """Value -> the output in whose memory it is made: the output itself, or what a Reshape views as it."""
        producers = self.graph.producers()
        homes: dict[str, int] = {}
        for i, output in enumerate(self.graph.outputs):
            value = output.value
            op = producers.get(value.name)
            while isinstance(op, Reshape) and same_order(value.type.shape):
                value = op.input
                op = producers.get(value.name)
            if op is not None and same_order(value.type.shape):
                homes.setdefault(value.name, i)
        return homes

    def _new(self, value: Value, layout: Layout, place: Place = Place.ARENA, name: str | None = None) -> Tensor:
        codes = value.type.codes
        elements = checked_elements(value.type.shape, value.origin)
        if name is None and value.name in self.homes:
            place, name = Place.OUTPUT, f"output{self.homes[value.name]}"
        kind = narrowest(codes.low, codes.high)
        buffer = Buffer(name or f"t{len(self.tensors)}", place, kind, elements)
        return self._know(value, Tensor(buffer, value.type.shape, layout, codes.low, codes.high))

    def _know(self, value: Value, tensor: Tensor) -> Tensor:
        """Remember where `value` lies; both layouts where they are the same."""
        self.tensors[value.name, tensor.layout] = tensor
        if same_order(tensor.shape):
            for layout in Layout:
                self.tensors.setdefault((value.name, layout), replace(tensor, layout=layout))
        return tensor

    def _tensor(self, value: Value, layout: Layout) -> Tensor:
        """`value` in memory in the given layout, copied there when it is not."""
        found = self.tensors.get((value.name, layout))
        if found is not None:
            return found
        if value.name in self.views and (layout is Layout.ROWS or (value.name, Layout.ROWS) not in self.tensors):
            source = self._tensor(self.views[value.name], Layout.ROWS)
            viewed = replace(source, shape=value.type.shape, layout=Layout.ROWS)
            self._know(value, viewed)
            return self._tensor(value, layout)
        other = Layout.ROWS if layout is Layout.CHANNELS_LAST else Layout.CHANNELS_LAST
        source = self.tensors[value.name, other]
        result = self._new(value, layout, name=f"t{len(self.tensors)}")
        self.steps.append(copy_step(source, result, range(len(value.type.shape))))
        return result

    def _natural(self, shape: Shape) -> Layout:
        return Layout.CHANNELS_LAST if len(shape) == 4 else Layout.ROWS

    def _here(self, value: Value) -> Tensor:
        """`value` in whatever layout it already has, the natural one first."""
        natural = self._natural(value.type.shape)
        for layout in (natural, Layout.ROWS):
            if (value.name, layout) in self.tensors:
                return self.tensors[value.name, layout]
        return self._tensor(value, natural)

    def _output(self, index: int, value: Value) -> Tensor:
        """The output in the caller's memory, copied there when it was not made there."""
        made = self._tensor(value, Layout.ROWS)
        if made.buffer.place is Place.OUTPUT and made.buffer.name == f"output{index}":
            return made
        result = replace(made, buffer=replace(made.buffer, name=f"output{index}", place=Place.OUTPUT))
        self.steps.append(copy_step(made, result, range(len(made.shape))))
        return result

    # --- operations ----------------------------------------------------------------------------------------------

    def _plan(self, op: IntegerOp) -> None:
        match op:
            case Conv2d() | Dense() | SumPool() | MaxPool():
                self._advance(_Chain(op, None, (op,), ()), op)
            case Requantize():
                self._advance(_extended(self._chain(op.input), op, requantize_stage(op, _range(op.input))), op)
            case Clamp():
                self._advance(_extended(self._chain(op.input), op, ClampStage.of(op, _range(op.input))), op)
            case Rescale():
                self._advance(_extended(self._chain(op.input), op, ScaleStage.of(op, _range(op.input))), op)
            case Lookup():
                self._advance(_extended(self._chain(op.input), op, LookupStage.of(op, _range(op.input))), op)
            case Sum() | Product():
                self._combine(op)
            case Reshape():
                self.views[op.result.name] = op.input
                self.implementation[op.result.name] = "view"
            case Transpose():
                self._transpose(op)
            case Pad():
                self._pad(op)
            case Concat():
                self._concat(op)
            case _:
                assert_never(op)

    def _chain(self, value: Value) -> _Chain:
        """What `value` is so far: a chain that waits for its only reader, or a tensor in memory."""
        return self.pending.pop(value.name, None) or _Chain(None, self._here(value), (), ())

    def _advance(self, chain: _Chain, op: Op) -> None:
        """Keep the chain open when one stage-like operation alone reads its result; else emit it."""
        name = op.result.name
        if self.readers.get(name, 0) == 1 and isinstance(self.next_reader.get(name), _FUSABLE):
            self.pending[name] = chain
        else:
            self._emit(chain)

    def _combine(self, op: Sum | Product) -> None:
        """One operand's chain goes on, the other lies in memory."""
        if isinstance(op, Sum) and op.lhs.type.shape != op.rhs.type.shape:
            raise CompileError(
                Code.C_UNSUPPORTED,
                "Add of tensors of different shapes",
                at=op.result.origin,
                hint="broadcasting is not supported",
            )
        kept, other = op.lhs, op.rhs
        waiting = self.pending.get(other.name)
        swaps = kept.type.shape == other.type.shape  # a gate is never the chain: its loop is another
        if swaps and (kept.name not in self.pending or (waiting is not None and isinstance(waiting.root, Conv2d))):
            kept, other = other, kept
        if other.name in self.pending:
            self._emit(self.pending.pop(other.name))
        chain = self._chain(kept)
        tensor = self._tensor(other, self._layout(chain))
        self._advance(_extended(chain, op, combining_stage(op, _range(kept), tensor)), op)

    def _layout(self, chain: _Chain) -> Layout:
        """The layout of the chain's result."""
        if chain.root is not None:
            return self._natural(chain.root.result.type.shape)
        assert chain.tensor is not None
        return chain.tensor.layout

    def _transpose(self, op: Transpose) -> None:
        source = self._here(op.input)
        result = self._new(op.result, self._natural(op.result.type.shape))
        self.steps.append(copy_step(source, result, op.permutation))
        self._done(op, "copy")

    def _pad(self, op: Pad) -> None:
        source = self._here(op.input)
        self.steps.append(pad_step(source, self._new(op.result, source.layout), op))
        self._done(op, "copy")

    def _concat(self, op: Concat) -> None:
        result = self._new(op.result, self._natural(op.result.type.shape))
        start = 0
        for value in op.inputs:
            source = self._here(value)
            self.steps.append(copy_step(source, result, range(len(source.shape)), start * result.strides[op.axis]))
            start += value.type.shape[op.axis]
        self._done(op, "copy")

    def _done(self, op: Op, how: str) -> None:
        self.implementation[op.result.name] = how
        self.steps[-1] = replace(self.steps[-1], ops=(op,))

    # --- loops ---------------------------------------------------------------------------------------------------

    def _emit(self, chain: _Chain) -> None:
        for op, stage in zip(chain.ops[len(chain.ops) - len(chain.stages) :], chain.stages, strict=True):
            self.implementation[op.result.name] = stage.report
        value = chain.ops[-1].result
        match chain.root:
            case None:
                source = chain.tensor
                assert source is not None
                result = self._new(value, source.layout)
                self.steps.append(MapStep(source=source, result=result, ops=chain.ops, stages=chain.stages))
            case Conv2d() as conv:
                self._convolution(conv, chain, value)
            case Dense() as dense:
                self._dense(dense, chain, value)
            case SumPool() | MaxPool() as pool:
                self._pool(pool, chain, value)

    def _pool(self, op: SumPool | MaxPool, chain: _Chain, value: Value) -> None:
        source = self._tensor(op.input, Layout.CHANNELS_LAST)
        codes = op.result.type.codes
        sums = sum_type(min(codes.low, source.low), max(codes.high, source.high))
        result = self._new(value, Layout.CHANNELS_LAST)
        scratch = (Buffer(f"s{len(self.steps)}", Place.ARENA, sums, op.result.type.channels),)
        is_max = isinstance(op, MaxPool)
        self.implementation[op.result.name] = f"{'maximum' if is_max else 'sum'} in {sums.bits} bits"
        self.steps.append(
            PoolStep(
                source=source,
                result=result,
                ops=chain.ops,
                stages=chain.stages,
                scratch=scratch,
                window=op.window,
                is_max=is_max,
                sums=sums,
            )
        )

    def _convolution(self, op: Conv2d, chain: _Chain, value: Value) -> None:
        source = self._tensor(op.input, Layout.CHANNELS_LAST)
        result = self._new(value, Layout.CHANNELS_LAST)
        n, outputs, rows, columns = op.result.type.shape
        per_group = op.weight.shape[1]
        taps = op.window.taps * per_group
        self.macs += element_count(op.result.type.shape) * taps
        # [outputs, KH, KW, channels of the group]: the order of a channels-last tensor.
        weight = op.weight.data.transpose(0, 2, 3, 1).reshape(outputs, taps)
        sums = accumulator_type(op)
        weight_type = narrowest_signed(weight)
        products = product_type(source, weight, sums)
        how = f"{source.type.short} x {weight_type.short}, sums in {sums.bits} bits"
        bias = None if op.bias is None else op.bias.data
        if per_group == 1 and op.groups == outputs and op.groups > 1:
            self.implementation[op.result.name] = f"depthwise, {how}"
            self.steps.append(
                DepthwiseStep(
                    source=source,
                    result=result,
                    ops=chain.ops,
                    stages=chain.stages,
                    scratch=(Buffer(f"s{len(self.steps)}", Place.ARENA, sums, outputs),),
                    window=op.window,
                    weight=np.ascontiguousarray(weight.T),
                    weight_type=weight_type,
                    bias=bias,
                    sums=sums,
                    products=products,
                )
            )
            return
        self.implementation[op.result.name] = f"dot products, {how}"
        in_place = op.groups == 1 and op.window.kernel == op.window.strides == (1, 1) and not op.window.is_padded
        alignment = max(TAP_ALIGNMENT // source.type.bytes, 1)
        padded = taps if in_place else -(-taps // alignment) * alignment
        pixels = n * rows * columns
        tile = PIXEL_TILE if pixels >= PIXEL_TILE else 1
        packed = packed_rows(weight, op.groups, padded)
        scratch = [Buffer(f"s{len(self.steps)}a", Place.ARENA, sums, tile * packed.shape[0])]
        if not in_place:
            scratch.append(Buffer(f"s{len(self.steps)}p", Place.ARENA, source.type, tile * op.groups * padded))
        self.steps.append(
            DotStep(
                source=source,
                result=result,
                ops=chain.ops,
                stages=chain.stages,
                scratch=tuple(scratch),
                window=None if in_place else op.window,
                groups=op.groups,
                weight=packed,
                weight_type=weight_type,
                bias=bias,
                sums=sums,
                products=products,
                pixels=pixels,
                tile=tile,
                outputs=outputs,
                taps=taps,
                padded=padded,
            )
        )

    def _dense(self, op: Dense, chain: _Chain, value: Value) -> None:
        weight = op.weight.data
        source, order = self._flattened(op.input)
        if order is not None:
            weight = weight[:, order]
        result = self._new(value, Layout.ROWS)
        outputs, taps = weight.shape
        pixels = op.result.type.shape[0]
        self.macs += pixels * weight.size
        sums = accumulator_type(op)
        weight_type = narrowest_signed(weight)
        self.implementation[op.result.name] = (
            f"dot products, {source.type.short} x {weight_type.short}, sums in {sums.bits} bits"
        )
        tile = PIXEL_TILE if pixels >= PIXEL_TILE else 1
        packed = packed_rows(weight, 1, taps)
        self.steps.append(
            DotStep(
                source=source,
                result=result,
                ops=chain.ops,
                stages=chain.stages,
                scratch=(Buffer(f"s{len(self.steps)}a", Place.ARENA, sums, tile * packed.shape[0]),),
                window=None,
                groups=1,
                weight=packed,
                weight_type=weight_type,
                bias=None if op.bias is None else op.bias.data,
                sums=sums,
                products=product_type(source, weight, sums),
                pixels=pixels,
                tile=tile,
                outputs=outputs,
                taps=taps,
                padded=taps,
            )
        )

    def _flattened(self, value: Value) -> tuple[Tensor, Codes | None]:
        """A dense layer's input, and where each of its elements comes from when it lies channels last in memory.

        A flattened feature map is read as it lies, with the weights in that order, rather than copied.
        """
        viewed = self.views.get(value.name)
        if (value.name, Layout.ROWS) not in self.tensors and viewed is not None:
            tensor = self.tensors.get((viewed.name, Layout.CHANNELS_LAST))
            shape = viewed.type.shape
            if tensor is not None and len(shape) == 4 and shape[0] == value.type.shape[0] and not same_order(shape):
                order = np.arange(element_count(shape[1:]), dtype=np.int64).reshape(shape[1:])
                return tensor, order.transpose(1, 2, 0).reshape(-1)
        return self._tensor(value, Layout.ROWS), None


def _extended(chain: _Chain, op: Op, stage: Stage) -> _Chain:
    return replace(chain, ops=(*chain.ops, op), stages=(*chain.stages, stage))


def _range(value: Value) -> tuple[int, int]:
    return value.type.codes.low, value.type.codes.high
