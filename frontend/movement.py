"""Operators that move elements and compute none: Transpose, the reshapes, Identity. Concat is in `gathering`."""

from __future__ import annotations

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.geometry.shapes import element_count
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import Value

__all__ = [
    "import_flatten",
    "import_identity",
    "import_reshape",
    "import_squeeze",
    "import_transpose",
    "import_unsqueeze",
    "reshaped",
    "transposed",
]


def import_flatten(builder: Builder, node: Node) -> Value:
    """Flatten(x, axis): two axes, of all sizes before `axis` and of the others."""
    x = builder.operand(node, 0)
    rank, axis = len(x.type.shape), node.take_int("axis", 1)
    if not -rank <= axis <= rank:
        raise node.fault(Code.SHAPE_MISMATCH, f"Flatten of {list(x.type.shape)} with axis={axis}")
    split = axis + rank if axis < 0 else axis
    return reshaped(builder, node, x, (element_count(x.type.shape[:split]), element_count(x.type.shape[split:])))


def import_reshape(builder: Builder, node: Node) -> Value:
    """Reshape(x, shape): -1 takes what is left, 0 copies the input's size unless allowzero."""
    x = builder.operand(node, 0)
    wanted = list(node.integers(1, "shape"))
    allow_zero = node.take_int("allowzero", 0)
    shape = [
        x.type.shape[i] if s == 0 and not allow_zero and i < len(x.type.shape) else s for i, s in enumerate(wanted)
    ]
    total = element_count(x.type.shape)
    if shape.count(-1) == 1:
        known = element_count(tuple(s for s in shape if s != -1))
        shape[shape.index(-1)] = total // known if known > 0 else 0
    if element_count(tuple(shape)) != total or min(shape, default=1) < 1:
        raise node.fault(Code.SHAPE_MISMATCH, f"Reshape of {list(x.type.shape)} to {wanted} does not fit")
    return reshaped(builder, node, x, tuple(shape))


def import_squeeze(builder: Builder, node: Node) -> Value:
    """Squeeze(x, axes): without axes every axis of size 1, but the batch."""
    x = builder.operand(node, 0)
    rank = len(x.type.shape)
    axes = node.take_axes()
    dropped = {a % rank for a in axes} if axes is not None else {i for i, s in enumerate(x.type.shape) if s == 1 and i}
    if any(x.type.shape[a] != 1 for a in dropped):
        raise node.fault(Code.SHAPE_MISMATCH, f"Squeeze of axes {sorted(dropped)} of {list(x.type.shape)}")
    return reshaped(builder, node, x, tuple(s for i, s in enumerate(x.type.shape) if i not in dropped))


def import_unsqueeze(builder: Builder, node: Node) -> Value:
    """Unsqueeze(x, axes): axes of size 1, counted in the result."""
    x = builder.operand(node, 0)
    axes = node.take_axes() or ()
    rank = len(x.type.shape) + len(axes)
    added = {a % rank for a in axes}
    sizes = iter(x.type.shape)
    return reshaped(builder, node, x, tuple(1 if i in added else next(sizes, 1) for i in range(rank)))


def import_transpose(builder: Builder, node: Node) -> Value:
    """Transpose(x): the axes reversed, where perm does not say otherwise."""
    x = builder.operand(node, 0)
    rank = len(x.type.shape)
    permutation = node.take_ints("perm", tuple(reversed(range(rank)))) or ()
    if sorted(permutation) != list(range(rank)):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, f"perm={list(permutation)} is no permutation of {rank} axes")
    if x.name in builder.channels_first and permutation == (0, rank - 1, *range(1, rank - 1)):
        builder.superseded.add(x.name)
        return builder.channels_first[x.name]
    shape = tuple(x.type.shape[i] for i in permutation)
    result = builder.new_value(shape, x.type.element, node.origin)
    return builder.append(Transpose(result=result, input=x, permutation=permutation))


def transposed(builder: Builder, x: Value, permutation: tuple[int, ...] = (1, 0)) -> Value:
    """x with its axes permuted; there and back, a constant with one scale for each of axis 0 is itself again."""
    shape = tuple(x.type.shape[a] for a in permutation)
    result = builder.new_value(shape, x.type.element, x.origin)
    return builder.append(Transpose(result=result, input=x, permutation=permutation))


def import_identity(builder: Builder, node: Node) -> Value:
    """Identity(x), and Dropout(x), which is one at inference."""
    node.ignore("ratio", "seed")
    if node.op_type == "Dropout" and node.has_input(2) and node.constant(2, "training mode").any():
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, "Dropout in training mode is not supported", hint="export after network.eval()"
        )
    return builder.operand(node, 0)


def reshaped(builder: Builder, node: Node, x: Value, shape: tuple[int, ...]) -> Value:
    """x under another shape. Raises CompileError where the batch does not stay."""
    if not shape or shape[:1] != x.type.shape[:1]:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(x.type.shape)} to {list(shape)} is not supported",
            hint="keep the batch axis",
        )
    return builder.append(Reshape(result=builder.new_value(shape, x.type.element, node.origin), input=x))
