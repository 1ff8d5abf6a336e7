"""Integer graphs by hand and at random, which no frontend made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import result_range
from pefslc.analysis.verify import verify
from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window, conv_shape, pool_shape
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level, OutputMap
from pefslc.ir.integer import Clamp, Conv2d, Dense, IntegerOp, Lookup, Product, Requantize, Rescale, Round, Sum, SumPool
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample
from pefslc.ir.value import CodeRange, IntArray, TensorType, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.line import BentLine, line_of
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, LeakyReluStage, Stage
from pefslc.numeric.staircase import Staircase, staircase_of

__all__ = ["GraphBuilder", "random_graph", "random_inputs", "random_stages"]

Array = NDArray[np.int64]
UNIT = Scale.of([Fraction(1)])


@dataclass
class GraphBuilder:
    """An integer graph under construction. Every method returns the new value; results get their ranges."""

    name: str
    inputs: list[GraphInput] = field(default_factory=list)
    ops: list[IntegerOp] = field(default_factory=list)
    count: int = 0

    def input(self, shape: tuple[int, ...], bits: int = 5, *, signed: bool = True, name: str | None = None) -> Value:
        q = Quantization(bits=bits, signed=signed, scale=UNIT)
        value = self._value(shape, q.low, q.high)
        self.inputs.append(GraphInput(name or f"x{len(self.inputs)}", value, Quantizer(q)))
        return value

    def conv(self, x: Value, weight: Array, bias: Array | None = None, groups: int = 1, **window: object) -> Value:
        w = Window(kernel=weight.shape[2:], **window)  # type: ignore[arg-type]
        shape = conv_shape(x.type.shape, weight.shape, w)
        b = None if bias is None else IntArray(bias)
        return self._add(Conv2d, shape, input=x, weight=IntArray(weight), bias=b, window=w, groups=groups)

    def dense(self, x: Value, weight: Array, bias: Array | None = None) -> Value:
        shape = (x.type.shape[0], weight.shape[0])
        b = None if bias is None else IntArray(bias)
        return self._add(Dense, shape, input=x, weight=IntArray(weight), bias=b)

    def requantize(self, x: Value, stages: list[Stage], bits: int = 5, *, signed: bool = True) -> Value:
        q = Quantizer(Quantization(bits=bits, signed=signed, scale=UNIT))
        codes = x.type.codes
        return self.steps(x, staircase_of(UNIT, stages, q, codes.low, codes.high, x.type.channels))

    def steps(self, x: Value, staircase: Staircase) -> Value:
        return self._add(Requantize, x.type.shape, input=x, staircase=staircase)

    def round(self, x: Value, line: BentLine) -> Value:
        return self._add(Round, x.type.shape, input=x, line=line)

    def clamp(self, x: Value, low: int, high: int) -> Value:
        return self._add(Clamp, x.type.shape, input=x, low=low, high=high)

    def rescale(self, x: Value, factor: int) -> Value:
        return self._add(Rescale, x.type.shape, input=x, factor=factor)

    def sum(self, lhs: Value, rhs: Value) -> Value:
        return self._add(Sum, lhs.type.shape, lhs=lhs, rhs=rhs)

    def pool(self, x: Value, is_max: bool, *, factors: Array | None = None, **window: object) -> Value:
        w = Window(**window)  # type: ignore[arg-type]
        shape = pool_shape(x.type.shape, w)
        if is_max or factors is None:
            return self._add(MaxPool if is_max else SumPool, shape, input=x, window=w)
        return self._add(SumPool, shape, input=x, window=w, factors=IntArray(np.resize(factors, shape[2:])))

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        return self._add(Reshape, shape, input=x)

    def transpose(self, x: Value, permutation: tuple[int, ...]) -> Value:
        shape = tuple(x.type.shape[a] for a in permutation)
        return self._add(Transpose, shape, input=x, permutation=permutation)

    def lookup(self, x: Value, table: Array) -> Value:
        return self._add(Lookup, x.type.shape, input=x, low=x.type.codes.low, table=IntArray(table))

    def product(self, lhs: Value, rhs: Value) -> Value:
        return self._add(Product, lhs.type.shape, lhs=lhs, rhs=rhs)

    def pad(self, x: Value, before: tuple[int, ...], after: tuple[int, ...]) -> Value:
        shape = tuple(b + size + a for b, size, a in zip(before, x.type.shape, after, strict=True))
        return self._add(Pad, shape, input=x, before=before, after=after)

    def slice(self, x: Value, ranges: list[range]) -> Value:
        begins, steps = (0, *(r.start for r in ranges)), (1, *(r.step for r in ranges))
        shape = (x.type.shape[0], *map(len, ranges))
        return self._add(Slice, shape, input=x, begins=begins, steps=steps)

    def upsample(self, x: Value, factors: tuple[int, ...]) -> Value:
        shape = tuple(size * factor for size, factor in zip(x.type.shape, factors, strict=True))
        return self._add(Upsample, shape, input=x, factors=factors)

    def concat(self, values: tuple[Value, ...], axis: int) -> Value:
        first = values[0].type.shape
        total = sum(v.type.shape[axis] for v in values)
        return self._add(Concat, (*first[:axis], total, *first[axis + 1 :]), inputs=values, axis=axis)

    def graph(self, *outputs: Value) -> Graph:
        identity = OutputMap((Fraction(1),), (Fraction(0),))
        named = tuple(GraphOutput(f"y{i}", v, identity) for i, v in enumerate(outputs))
        built = Graph(self.name, Level.INTEGER, tuple(self.inputs), tuple(self.ops), named)
        assert verify(built) == []
        return built

    def _value(self, shape: tuple[int, ...], low: int, high: int) -> Value:
        self.count += 1
        return Value(
            f"v{self.count}", TensorType(shape, CodeRange(low=low, high=high, scale=UNIT)), Origin("node", "Op")
        )

    def _add(self, kind: Callable[..., IntegerOp], shape: tuple[int, ...], **fields: object) -> Value:
        result = self._value(shape, -(2**62), 2**62)
        low, high = result_range(kind(result=result, **fields))
        result = Value(result.name, TensorType(shape, CodeRange(low=low, high=high, scale=UNIT)), result.origin)
        self.ops.append(kind(result=result, **fields))
        return result


def random_stages(rng: np.random.Generator, x: Value, bits: int) -> list[Stage]:
    """A chain that maps the accumulators of `x` to about `bits` bits: per channel, falling and constant included."""
    codes = x.type.codes
    span = max(codes.high - codes.low, 1)
    kind = rng.integers(0, 6)
    if kind == 0:  # a plain shift
        factor = (Fraction(1, 2 ** max(span.bit_length() - bits, 0)),)
    else:
        n = x.type.channels if kind > 1 else 1
        factor = tuple(
            Fraction(int(rng.integers(-12, 40)), 16) * Fraction(2**bits, span) * (rng.random() > 0.1) for _ in range(n)
        )
    n = len(factor)
    offset = tuple(Fraction(int(rng.integers(-8, 9)), 4) for _ in range(n))
    radicand = tuple(Fraction(int(rng.integers(1, 6))) if kind > 3 else Fraction(1) for _ in range(n))
    stages: list[Stage] = [Affine(factor, (Fraction(0),) * n, radicand, offset)]
    if rng.random() < 0.5:
        stages.append(LeakyReluStage((Fraction(1, 10) if rng.random() < 0.4 else Fraction(0),)))
    return stages


def random_graph(seed: int) -> Graph:
    """A small network with anything in it. The same seed gives the same graph."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"random{seed}")
    batch = int(rng.choice([1, 1, 2]))
    bits = int(rng.choice([2, 4, 5, 8, 11]))
    signed = bool(rng.random() < 0.6)
    x = b.input((batch, int(rng.integers(1, 6)), int(rng.integers(4, 9)), int(rng.integers(4, 9))), bits, signed=signed)
    values = [x]

    def requantized(v: Value) -> Value:
        return b.requantize(v, random_stages(rng, v, bits), bits, signed=bool(rng.random() < 0.5))

    def weights(*shape: int) -> Array:
        top = int(rng.choice([1, 3, 15, 127, 900]))
        return rng.integers(-top, top + 1, shape)

    def biased(outputs: int) -> Array | None:
        return rng.integers(-300, 300, outputs) if rng.random() < 0.6 else None

    for _ in range(int(rng.integers(2, 6))):
        x = values[int(rng.integers(max(len(values) - 2, 0), len(values)))]
        _, channels, height, width = x.type.shape
        kind = rng.choice(
            [
                "conv",
                "conv",
                "group",
                "depthwise",
                "pool",
                "residual",
                "concat",
                "map",
                "transpose",
                "pad",
                "slice",
                "upsample",
                "lookup",
                "round",
                "gate",
            ]
        )
        kernel = (int(rng.integers(1, min(4, height + 1))), int(rng.integers(1, min(4, width + 1))))
        dilation = (2, 2) if rng.random() < 0.2 and height > 4 and width > 4 and kernel <= (2, 2) else (1, 1)
        pads = tuple(int(p) for p in rng.integers(0, 2, 4))
        strides = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        if kind == "conv":
            outputs = int(rng.integers(1, 10))
            acc = b.conv(
                x, weights(outputs, channels, *kernel), biased(outputs), pads=pads, strides=strides, dilations=dilation
            )
            values.append(requantized(acc))
        elif kind == "group":
            groups = 2 if channels % 2 == 0 else channels
            outputs = groups * int(rng.integers(1, 6))
            w = weights(outputs, channels // groups, *kernel)
            acc = b.conv(x, w, biased(outputs), groups, pads=pads, strides=strides, dilations=dilation)
            values.append(requantized(acc))
        elif kind == "depthwise":
            w = weights(channels, 1, *kernel)
            acc = b.conv(x, w, biased(channels), channels, pads=pads, strides=strides, dilations=dilation)
            values.append(requantized(acc))
        elif kind == "pool":
            is_max = bool(rng.random() < 0.5)
            # ONNX forbids windows that lie in the padding alone.
            padded = pads if min(kernel) > 1 else (0, 0, 0, 0)
            factors = rng.choice([6, 12, 60, 100_000], 7) if rng.random() < 0.5 else None
            pooled = b.pool(x, is_max, factors=factors, kernel=kernel, strides=strides, pads=padded)
            values.append(pooled if is_max or rng.random() < 0.5 else requantized(pooled))
        elif kind == "residual":
            left = requantized(b.conv(x, weights(channels, channels, 1, 1)))
            right = (
                b.rescale(x, int(rng.choice([-2, -1, 1, 3]))) if rng.random() < 0.5 else requantized(b.rescale(x, 3))
            )
            total = b.sum(left, right) if rng.random() < 0.5 else b.sum(right, left)
            values.append(requantized(total) if rng.random() < 0.7 else b.sum(total, total))
        elif kind == "concat":
            values.append(b.concat((x, b.clamp(x, -2, 3), x), int(rng.integers(1, 4))))
        elif kind == "map":
            values.append(requantized(b.clamp(x, -3, 100)))
        elif kind == "lookup":
            entries = x.type.codes.high - x.type.codes.low + 1
            rows = int(rng.choice([1, channels]))
            values.append(b.lookup(x, rng.integers(*rng.choice([(-9, 9), (0, 300), (-70000, 5)]), (rows, entries))))
        elif kind == "round":
            acc = b.conv(x, weights(channels, channels, 1, 1) << int(rng.integers(0, 20)))
            scale = Scale.power_of_two(int(rng.integers(-4, 1)))
            relu = [LeakyReluStage()] if rng.random() < 0.5 else []
            wide = Quantizer(Quantization(bits=int(rng.integers(3, 33)), signed=True, scale=UNIT))
            line = line_of(scale, relu, wide, acc.type.codes.low, acc.type.codes.high)
            assert line is not None
            values.append(b.clamp(b.round(acc, line), -200, 300))
        elif kind == "gate":
            gate = requantized(b.pool(x, False, kernel=(height, width)))
            product = b.product(x, gate) if rng.random() < 0.7 else b.product(requantized(x), x)
            values.append(requantized(product) if rng.random() < 0.7 else product)
        elif kind == "upsample":
            values.append(b.upsample(x, (1, 1, int(rng.integers(1, 4)), int(rng.integers(1, 4)))))
        elif kind == "slice":
            ranges = [range(size)[:: int(rng.choice([1, 1, 2, -1]))] for size in (channels, height, width)]
            ranges = [r[int(rng.integers(0, len(r))) :] if rng.random() < 0.4 else r for r in ranges]
            values.append(b.slice(x, ranges))
        elif kind == "pad":
            before, after = ((0, *map(int, rng.integers(0, 3, 3))) for _ in range(2))
            values.append(b.pad(x, before, after))
        else:
            values.append(b.transpose(x, (0, 1, 3, 2) if rng.random() < 0.5 else (0, 2, 3, 1)))
    last = values[-1]
    outputs = [last]
    if rng.random() < 0.7:
        n = int(np.prod(last.type.shape[1:]))
        flat = b.reshape(last, (batch, n))
        if rng.random() < 0.3:
            flat = b.clamp(flat, -5, 5)
        outputs.append(b.dense(flat, rng.integers(-7, 8, (int(rng.integers(1, 6)), n)), None))
    if rng.random() < 0.3:
        outputs.append(b.inputs[0].value)
    if rng.random() < 0.3:
        outputs.append(values[len(values) // 2])
    return b.graph(*outputs)


def random_inputs(graph: Graph, runs: int, seed: int) -> dict[str, Array]:
    """Codes for `runs` runs, the ends of the ranges among them."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in graph.inputs:
        codes = i.value.type.codes
        shape = (i.value.type.shape[0] * runs, *i.value.type.shape[1:])
        array = rng.integers(codes.low, codes.high + 1, shape)
        array[0] = rng.choice([codes.low, codes.high], shape[1:])
        found[i.name] = array
    return found
