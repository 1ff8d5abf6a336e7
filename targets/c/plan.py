"""From the integer graph to steps: which operations are done in one loop.

Requantize, Round, Lookup, Clamp, Rescale, Sum and Product join the loop that makes their operand when they are its
only reader, so accumulators are not stored. `memory` keeps where tensors lie; the `*_steps` make the loops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from pefslc.artifacts.costs import macs
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.ir.graph import Graph, IntegerGraph, integer_graph
from pefslc.ir.integer import Clamp, Conv2d, Dense, IntegerOp, Lookup, Product, Requantize, Rescale, Round, Sum, SumPool
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample
from pefslc.ir.value import Op, Value
from pefslc.targets.c.convolution_steps import convolution_step, dense_step
from pefslc.targets.c.copy_steps import copied, copy_step
from pefslc.targets.c.cpus import GENERIC, Cpu
from pefslc.targets.c.memory import Memory
from pefslc.targets.c.planes import PlaneReaders
from pefslc.targets.c.pool_steps import pool_step
from pefslc.targets.c.requantize import requantize_stage, round_stage
from pefslc.targets.c.stages import (
    ClampStage,
    ScaleStage,
    Stage,
    combining_stage,
)
from pefslc.targets.c.steps import DepthwiseStep, DotStep, MapStep, PoolStep, Program, Step
from pefslc.targets.c.storage import Layout, Place, Tensor, natural_layout
from pefslc.targets.c.table_stages import LookupStage

__all__ = ["plan_program"]

_FUSABLE = (Requantize, Round, Lookup, Clamp, Rescale, Sum, Product)


def plan_program(graph: Graph, cpu: Cpu = GENERIC) -> Program:
    """The steps for an integer graph, laid out for `cpu`. Raises CompileError with all that cannot be done."""
    return _Planner(integer_graph(graph), cpu).program()


@dataclass(frozen=True, slots=True)
class _Chain:
    """An operation and the stages after it, not yet emitted; where `root` is None, stages on `tensor` in memory."""

    root: Conv2d | Dense | SumPool | MaxPool | None
    tensor: Tensor | None
    ops: tuple[Op, ...]
    stages: tuple[Stage, ...]


class _Planner:
    """The steps so far, and the chains that wait for what joins them."""

    def __init__(self, graph: IntegerGraph, cpu: Cpu) -> None:
        self.graph = graph
        self.cpu = cpu
        self.steps: list[Step] = []
        self.memory = Memory(graph, self.steps)
        self.planes = PlaneReaders(graph)
        self.pending: dict[str, _Chain] = {}
        self.implementation: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.failed: set[str] = set()
        self.readers = graph.reader_counts()
        self.next_reader = {name: ops[0] for name, ops in graph.consumers().items()}

    def program(self) -> Program:
        inputs = []
        for i, graph_input in enumerate(self.graph.inputs):
            tensor = self.memory.new(graph_input.value, Layout.ROWS, Place.INPUT, f"input{i}")
            inputs.append(tensor)
        for op in self.graph.ops:
            self._visit(op)
        if self.problems:
            raise CompileError.of(self.problems)
        outputs = tuple(self.memory.output(i, o.value) for i, o in enumerate(self.graph.outputs))
        return Program(tuple(self.steps), tuple(inputs), outputs, self.implementation, sum(map(macs, self.graph.ops)))

    def _visit(self, op: IntegerOp) -> None:
        """Plan one operation; faults are collected, and what depends on one that failed is passed over."""
        if any(v.name in self.failed for v in op.operands):
            self.failed.add(op.result.name)
            return
        try:
            self._plan(op)
        except CompileError as e:
            self.problems.extend(e.problems)
            self.failed.add(op.result.name)

    # --- operations ----------------------------------------------------------------------------------------------

    def _plan(self, op: IntegerOp) -> None:
        match op:
            case Conv2d() | Dense() | SumPool() | MaxPool():
                self._advance(_Chain(op, None, (op,), ()), op)
            case Requantize() if (moved := self.planes.moved(op)) is not None:
                self.memory.moved[op.result.name] = (op.input, moved)
                self.implementation[op.result.name] = f"taps are {moved:+d}"
            case Requantize():
                self._advance(_extended(self._chain(op.input), op, requantize_stage(op, _range(op.input))), op)
            case Round():
                self._advance(_extended(self._chain(op.input), op, round_stage(op, _range(op.input))), op)
            case Clamp():
                self._advance(_extended(self._chain(op.input), op, ClampStage.of(op, _range(op.input))), op)
            case Rescale():
                self._advance(_extended(self._chain(op.input), op, ScaleStage.of(op, _range(op.input))), op)
            case Lookup():
                self._advance(_extended(self._chain(op.input), op, LookupStage.of(op, _range(op.input))), op)
            case Sum() | Product():
                self._combine(op)
            case Reshape():
                self.memory.views[op.result.name] = op.input
                self.implementation[op.result.name] = "view"
            case Transpose() | Slice() | Upsample() | Pad():
                self._copy(op)
            case Concat():
                self._concat(op)
            case _:
                assert_never(op)

    def _chain(self, value: Value) -> _Chain:
        """What `value` is so far: a chain that waits for its only reader, or a tensor in memory."""
        return self.pending.pop(value.name, None) or _Chain(None, self.memory.here(value), (), ())

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
        other, scales = self._stored(other)
        chain = self._chain(kept)
        tensor = self.memory.tensor(other, self._layout(chain))
        factor = 1
        for scale in scales:
            factor *= scale.factor
            self.implementation[scale.result.name] = f"multiply by {scale.factor}"
        done = len(chain.ops) - len(chain.stages)
        chain = replace(chain, ops=(*chain.ops[:done], *scales, *chain.ops[done:]))  # before those that are stages
        self._advance(_extended(chain, op, combining_stage(op, _range(kept), tensor, factor)), op)

    def _stored(self, value: Value) -> tuple[Value, tuple[Rescale, ...]]:
        """What lies in memory of `value`, and by what its reader multiplies it: codes are narrower before that."""
        chain = self.pending.pop(value.name, None)
        if chain is None:
            return value, ()
        count = len(chain.ops)
        while count and isinstance(chain.ops[count - 1], Rescale):
            count -= 1
        scales = tuple(op for op in chain.ops[count:] if isinstance(op, Rescale))
        if chain.root is not None or count:
            left = len(chain.stages) - len(scales)
            self._emit(replace(chain, ops=chain.ops[:count], stages=chain.stages[:left]))
        return (scales[0].input if scales else value), scales

    def _layout(self, chain: _Chain) -> Layout:
        """The layout of the chain's result."""
        if chain.root is not None:
            return natural_layout(chain.root.result.type.shape)
        assert chain.tensor is not None
        return chain.tensor.layout

    def _copy(self, op: Transpose | Slice | Upsample | Pad) -> None:
        """Into the natural layout; what keeps the order of the axes, into that of the source."""
        source = self.memory.here(op.input)
        keeps = isinstance(op, Upsample | Pad)
        result = self.memory.new(op.result, source.layout if keeps else natural_layout(op.result.type.shape))
        self.steps.append(copied(op, source, result))
        self._done(op, "copy")

    def _concat(self, op: Concat) -> None:
        result = self.memory.new(op.result, natural_layout(op.result.type.shape))
        start = 0
        for value in op.inputs:
            source = self.memory.here(value)
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
                result = self.memory.new(value, source.layout)
                self.steps.append(MapStep(source=source, result=result, ops=chain.ops, stages=chain.stages))
            case Conv2d() as conv:
                source = self.memory.read_by_windows(conv)
                result = self.memory.new(value, Layout.CHANNELS_LAST)
                self._loop(chain, convolution_step(conv, source, result, self.cpu))
            case Dense() as dense:
                source, order = self.memory.flattened(dense.input)
                result = self.memory.new(value, Layout.ROWS)
                self._loop(chain, dense_step(dense, source, order, result, self.cpu))
            case SumPool() | MaxPool() as pool:
                source = self.memory.tensor(pool.input, Layout.CHANNELS_LAST)
                result = self.memory.new(value, Layout.CHANNELS_LAST)
                self._loop(chain, pool_step(pool, source, result))

    def _loop(self, chain: _Chain, step: DotStep | DepthwiseStep | PoolStep) -> None:
        self.implementation[chain.ops[0].result.name] = step.report
        scratch = tuple(replace(b, name=f"s{len(self.steps)}{b.name}") for b in step.scratch)
        self.steps.append(replace(step, ops=chain.ops, stages=chain.stages, scratch=scratch))


def _extended(chain: _Chain, op: Op, stage: Stage) -> _Chain:
    return replace(chain, ops=(*chain.ops, op), stages=(*chain.stages, stage))


def _range(value: Value) -> tuple[int, int]:
    return value.type.codes.low, value.type.codes.high
