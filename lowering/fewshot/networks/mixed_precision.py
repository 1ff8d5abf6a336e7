"""Mixed precision: a number of bits for each tensor of a float backbone, searched within budgets.

found = mixed_formats(trained, 8, ["bits=3", "activations=4"], base.images, val.images)
tuned = fit(in_formats(trained, found.formats), base, Recipe.fine_tuning(), teacher=trained.teacher)

What a bit is worth is measured, by `FeatureAngle`, on pictures of val: they show what the head will see, classes that
the network was not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.driver.compile_options import chosen_target, parse_format
from pefslc.fewshot.networks.format_space import FeatureAngle, FormatSpace
from pefslc.fewshot.networks.images import require_images
from pefslc.fewshot.networks.training import Trained
from pefslc.fewshot.precision.budgets import (
    BudgetKind,
    BudgetRequest,
    accumulator_budget,
    mean_budget,
    parse_budget,
    storage_budget,
    widest_sum,
)
from pefslc.fewshot.precision.descent import Bits, Budget, Descent, descend
from pefslc.geometry.shapes import element_count
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Constant
from pefslc.numeric.choose_format import FEWEST_BITS
from pefslc.passes.calibrate import Widths
from pefslc.passes.check_accumulators import sum_ranges
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import to_integer
from pefslc.passes.quantize_after_training import FormatPlan, quantized_by
from pefslc.targets.protocol import TargetOptions
from pefslc.train.tensor_formats import TensorFormats, module_of

__all__ = ["MixedFormats", "missed_budgets", "mixed_formats"]

_INPUT = "input"


@dataclass(frozen=True, slots=True)
class MixedFormats:
    """The formats that were found, and how. Tensors are "input", "blocks.0.act1", "blocks.0.conv1 weights".

    descent  the one that was taken of those that were `tried`
    loss     of `formats`; where points were settled after the descent, at most the descent's
    tried    in the order of the bits that they began with; some may not meet the budgets
    """

    formats: TensorFormats
    descent: Descent
    loss: float
    budgets: tuple[BudgetRequest, ...]
    tried: tuple[Descent, ...]


def mixed_formats(
    trained: Trained,
    most_bits: int,
    budgets: Sequence[str | BudgetRequest],
    images: NDArray[np.uint8],
    watched: NDArray[np.uint8],
    *,
    progress: Progress | None = None,
) -> MixedFormats:
    """Formats of a float backbone's tensors, of 2 to `most_bits` bits, within the budgets.

    budgets  "bits=3.5", "activations=4", "bytes=60000", "accumulator=14", "accumulator=custom_perf"; all must hold
    images   uint8 [N, size, size, 3] of the base classes, on which the formats of each number of bits are chosen
    watched  pictures of the val classes, on some of which features are compared

    A sum is as wide as its codes, whatever their formats allow. So with a budget of accumulators weights that give up
    bits keep their range: then a bit less is a bit less of the sum. Ranges are chosen for a number of bits, and so the
    search begins anew with 2, 3 ... bits everywhere, until one that meets the budgets ends worse than an earlier one.
    With other budgets the points of formats are settled at the end: `FormatSpace.settled`.

    Weights that are trained on in these formats become others, and with them the sums: `missed_budgets` looks again.
    Equal arguments give equal formats on one machine with one number of threads. Raises CompileError, also where no
    search meets the budgets; the message is of the one that came nearest.
    """
    asked = tuple(parse_budget(b) if isinstance(b, str) else b for b in budgets)
    parse_format(f"auto:{most_bits}")
    require_images(watched, trained.description)
    # Their widths, before any work: a board that there is not is said at once.
    sums = bool([_limits(request) for request in asked if request.kind is BudgetKind.ACCUMULATOR])
    space = _Space(trained, most_bits, images, progress)
    angle = FeatureAngle(space.space, space.plans[most_bits], watched)

    def loss(bits: Bits) -> float:
        return angle(space.plan(bits))

    best, plan, tried = None, space.plans[most_bits], list[Descent]()
    nearest = (math.inf, "")  # what is missed by where no budget is met, and the words for it
    for bits in range(FEWEST_BITS, most_bits + 1) if sums else (most_bits,):
        space.begin(bits, keep_ranges=sums)
        made = [space.budget(request) for request in asked]
        descent = descend(dict.fromkeys(space.tensors, bits), made, loss, progress=progress)
        tried.append(descent)
        if not descent.holds:  # with more bits ranges are wider, and sums of few bits of them may be narrower
            nearest = min(nearest, _unmet(made, descent), key=lambda miss: miss[0])
        elif best is None or descent.loss < best.loss:
            best, plan = descent, space.plan(descent.bits)
        elif descent.steps:
            break
    if best is None:
        hint = "a larger budget; or fewer channels: --width, --prune"
        raise CompileError(Code.BUDGET, nearest[1], hint=hint)
    if not sums:  # another point makes other sums
        plan = space.space.settled(plan, watched)
    return MixedFormats(space.space.formats(plan), best, angle(plan), asked, tuple(tried))


def missed_budgets(graph: Graph, budgets: Sequence[BudgetRequest]) -> tuple[str, ...]:
    """What a quantized backbone misses of the budgets of accumulators; the others count bits of formats, which stay."""
    found = []
    for request in budgets:
        if request.kind is BudgetKind.ACCUMULATOR:
            limits = _limits(request)
            needed = widest_sum(_sums(graph, limits))
            if needed > limits.accumulator_bits:
                found.append(f"{request}: a sum takes {needed} bits, {limits.accumulator_bits} are there")
    return tuple(found)


class _Space:
    """The formats of each tensor by its number of bits."""

    def __init__(self, trained: Trained, most_bits: int, images: NDArray[np.uint8], progress: Progress | None) -> None:
        self.space = FormatSpace(trained, most_bits, images, progress)
        graph = self.space.graph
        (first,) = graph.inputs
        plan = self.space.plan(most_bits)
        # Tensors in the order of the network: names of values and of layers of the graph.
        self.sites, self.layers = dict[str, str](), dict[str, str]()
        self.counts_of_values, self.counts_of_weights = dict[str, int](), dict[str, int]()
        modules = dict(self.space.network.named_modules())
        sizes = {op.result.name: element_count(op.result.type.shape) for op in graph.of_type(Constant)}
        self.tensors: list[str] = []
        for value in [first.value, *(op.result for op in graph.ops)]:
            operation = graph.producers().get(value.name)
            module = _INPUT if operation is None else module_of(value.origin, modules, (nn.Module,)) or value.name
            if value.name in plan.weights and operation is not None:
                name = f"{module} weights"
                self.layers[name], self.counts_of_weights[name] = value.name, sizes[operation.operands[1].name]
                self.tensors.append(name)
            if value.name in plan.activations:
                self.sites[module], self.counts_of_values[module] = value.name, element_count(value.type.shape[1:])
                self.tensors.append(module)

        self.begin(most_bits, keep_ranges=False)

    def begin(self, most_bits: int, *, keep_ranges: bool) -> None:
        """The formats of a search from `most_bits` bits: each the best of its bits, or of its first range."""
        self.plans: dict[int, FormatPlan] = {}
        for bits in range(most_bits, FEWEST_BITS - 1, -1):
            plan = self.space.plan(bits)
            if keep_ranges:
                weights = Widths(weights=dict.fromkeys(plan.weights, bits))
                plan = FormatPlan(plan.activations, self.space.calibrator.plan(most_bits, weights).weights)
            self.plans[bits] = plan

    def plan(self, bits: Bits) -> FormatPlan:
        return FormatPlan(
            {site: self.plans[bits[name]].activations[site] for name, site in self.sites.items()},
            {layer: self.plans[bits[name]].weights[layer] for name, layer in self.layers.items()},
        )

    def budget(self, request: BudgetRequest) -> Budget:
        """Raises CompileError for a board that there is not."""
        name = str(request)
        if request.kind is BudgetKind.ACCUMULATOR:
            limits = _limits(request)
            known: dict[tuple[int, ...], Mapping[str, tuple[int, int]]] = {}

            def ranges(bits: Bits) -> Mapping[str, tuple[int, int]]:
                key = tuple(bits[tensor] for tensor in self.tensors)
                if key not in known:
                    known[key] = _sums(quantized_by(self.plan(bits), self.space.graph), limits)
                return known[key]

            return accumulator_budget(name, limits.accumulator_bits, ranges)
        assert request.limit is not None
        if request.kind is BudgetKind.BYTES:
            return storage_budget(name, request.limit, self.counts_of_weights)
        counts = self.counts_of_weights if request.kind is BudgetKind.BITS else self.counts_of_values
        return mean_budget(name, request.limit, counts)


def _limits(request: BudgetRequest) -> TargetLimits:
    if request.limit is not None:
        return TargetLimits(int(request.limit), "the budget")
    return chosen_target("tensil", {"arch": request.board}).limits(TargetOptions())


def _sums(quantized: Graph, limits: TargetLimits) -> dict[str, tuple[int, int]]:
    return sum_ranges(run_passes(quantized, to_integer(limits))[0])


def _unmet(budgets: Sequence[Budget], descent: Descent) -> tuple[float, str]:
    """By how much a descent that does not hold misses the budgets, and what to say of it."""
    least = dict.fromkeys(descent.start, FEWEST_BITS)
    least_misses = any(budget.excess(least) > 0 for budget in budgets)
    end = least if least_misses else descent.bits
    told = ", ".join(f"{b.name} ({b.cost(end):.4g})" for b in budgets if b.excess(end) > 0)
    excess = math.fsum(budget.excess(end) for budget in budgets)
    if least_misses:
        return excess, f"with {FEWEST_BITS} bits everywhere the network misses {told}"
    return excess, f"no tensor has a bit left that would help with {told}"
