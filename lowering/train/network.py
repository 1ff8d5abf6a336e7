"""A user's network: copying it, and running it, with what goes wrong said in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from brevitas.quant_tensor import QuantTensor
from torch import Tensor, nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given

__all__ = ["copy_of", "one_line", "require_network", "run", "tensors_of"]


def one_line(error: Exception) -> str:
    """The text of an exception that is not ours, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def require_network(given: object) -> None:
    """CompileError for what is no network, a class of networks for instance."""
    if not isinstance(given, nn.Module):
        raise CompileError(
            Code.NOT_A_MODEL,
            f"{quote_given(given)} is not a torch network",
            hint="give an instance of torch.nn.Module",
        )


def copy_of(network: nn.Module) -> nn.Module:
    """A copy, so that the user's own stays as it is. Raises CompileError."""
    try:
        return deepcopy(network)
    except Exception as e:  # tensors of a graph, open files, locks: whatever a module may hold
        raise CompileError(
            Code.NOT_EXPORTABLE,
            f"the network cannot be copied: {one_line(e)}",
            hint="remove results of earlier runs that it keeps",
        ) from e


def run(network: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a forward, in order, without gradients. Raises CompileError for whatever the forward raises."""
    try:
        with torch.no_grad():
            result = network(*inputs)
    except Exception as e:
        raise CompileError(
            Code.EXAMPLE,
            f"the network does not run on the example: {one_line(e)}",
            hint="give as example what network(example) takes; for several inputs a tuple",
        ) from e
    return list(tensors_of(result))


def tensors_of(result: object) -> Iterator[Tensor]:
    """The tensors in what a forward returns: a tensor, a QuantTensor, or tuples, lists and dictionaries of them."""
    if isinstance(result, QuantTensor):
        yield result.value
    elif isinstance(result, Tensor):
        yield result
    elif isinstance(result, list | tuple):
        for part in result:
            yield from tensors_of(part)
    elif isinstance(result, dict):
        yield from tensors_of(list(result.values()))
    else:
        raise CompileError(Code.NOT_EXPORTABLE, f"forward returns {type(result).__name__}, not tensors")
