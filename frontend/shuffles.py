"""DepthToSpace and SpaceToDepth: channels become blocks of pixels and back, a Reshape, a Transpose and a Reshape."""

from __future__ import annotations

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend.builder import Builder
from pefslc.frontend.movement import reshaped, transposed
from pefslc.frontend.node import Node
from pefslc.frontend.windows import image_operand
from pefslc.ir.value import Value

__all__ = ["import_depth_to_space", "import_space_to_depth"]


def import_depth_to_space(builder: Builder, node: Node) -> Value:
    """DepthToSpace(x [N, C * b * b, H, W]): [N, C, H * b, W * b].

    The block's row and column come before the channel (DCR) or after it (CRD, torch's PixelShuffle). Source: ONNX
    DepthToSpace-13.
    """
    x, block = image_operand(builder, node), _block(node)
    n, depth, height, width = x.type.shape
    mode = node.take_string("mode", "DCR")
    if depth % block**2:
        raise _not_whole(node, f"{block} x {block} does not divide {depth} channels")
    channels = depth // block**2
    match mode:
        case "DCR":
            split, order = (n, block, block, channels, height, width), (0, 3, 4, 1, 5, 2)
        case "CRD":
            split, order = (n, channels, block, block, height, width), (0, 1, 4, 2, 5, 3)
        case _:
            raise node.fault(
                Code.UNSUPPORTED_ATTRIBUTE, f"DepthToSpace with mode={mode!r} is not supported", hint="'DCR' or 'CRD'"
            )
    return _rearranged(builder, node, x, split, order, (n, channels, height * block, width * block))


def import_space_to_depth(builder: Builder, node: Node) -> Value:
    """SpaceToDepth(x [N, C, H * b, W * b]): [N, b * b * C, H, W]. Source: ONNX SpaceToDepth-13."""
    x, block = image_operand(builder, node), _block(node)
    n, channels, height, width = x.type.shape
    if height % block or width % block:
        raise _not_whole(node, f"{block} does not divide {height} rows and {width} columns")
    height, width = height // block, width // block
    split = (n, channels, height, block, width, block)
    return _rearranged(builder, node, x, split, (0, 3, 5, 1, 2, 4), (n, channels * block**2, height, width))


def _block(node: Node) -> int:
    block = node.take_int("blocksize", 0)
    if block < 1:
        raise node.fault(Code.PARAMETER_VALUE, f"blocksize is {block}", hint="a positive number")
    return block


def _not_whole(node: Node, why: str) -> CompileError:
    return node.fault(Code.SHAPE_MISMATCH, f"{node.op_type}: {why}", hint="export the model again")


def _rearranged(
    builder: Builder, node: Node, x: Value, split: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]
) -> Value:
    return reshaped(builder, node, transposed(builder, reshaped(builder, node, x, split), order), shape)
