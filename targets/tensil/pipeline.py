"""The way of a network to the TCU, in order: what this page lists is what `--dump-dir` shows.

    integer graph --split bends, split sums, select--> groups in codes --GROUP_REWRITES--> --place--> groups in words
    --WORD_REWRITES--> --schedule--> instructions

Each rewrite computes the same codes in fewer cycles; each can be left out (`--leave-out NAME`), and each says at debug
level where it does not apply, and why. In native arithmetic another order of sums may round to another word.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.passes.check_accumulators import overflows
from pefslc.targets.tensil.exact_first import ExactFirst
from pefslc.targets.tensil.group_rewrites.fusion import FuseSums
from pefslc.targets.tensil.group_rewrites.grouped_pixels import GroupPixels
from pefslc.targets.tensil.group_rewrites.input_packing import PackInputs
from pefslc.targets.tensil.group_rewrites.leftover_channels import FactorLeftovers, PackLeftovers
from pefslc.targets.tensil.group_rewrites.means import SplitMeans
from pefslc.targets.tensil.group_rewrites.packed_rows import PackRows
from pefslc.targets.tensil.group_rewrites.plain_ends import with_plain_ends
from pefslc.targets.tensil.group_rewrites.stationary_activations import KeepActivations
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.groups.text import print_groups
from pefslc.targets.tensil.groups.verify import faults_of_groups
from pefslc.targets.tensil.limits import limits_of
from pefslc.targets.tensil.lowered_network import LoweredNetwork
from pefslc.targets.tensil.native.exponents import HEADROOM, choose_exponents
from pefslc.targets.tensil.native.magnitudes import measure_magnitudes, proven_magnitudes
from pefslc.targets.tensil.native.native_placement import NativePlacement, is_native, place_natively
from pefslc.targets.tensil.native.native_report import NativeReport
from pefslc.targets.tensil.native.native_scales import NativeScales
from pefslc.targets.tensil.native.word_ranges import may_saturate
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context, Form, Rewrite, require_legal, rewritten
from pefslc.targets.tensil.schedule.batch_choice import modelled_cycles, schedule_batch, schedule_batch_below
from pefslc.targets.tensil.split import Split
from pefslc.targets.tensil.wide.split_sums import Chosen, WideSums, split_sums
from pefslc.targets.tensil.word_rewrites.addends import DropIdleClips, FoldAddends
from pefslc.targets.tensil.word_rewrites.additions import MergeAdditions
from pefslc.targets.tensil.word_rewrites.both_digits import SumBothDigits
from pefslc.targets.tensil.word_rewrites.leftovers_apart import SplitLeftovers
from pefslc.targets.tensil.word_rewrites.offsets import StoreWithOffsets
from pefslc.targets.tensil.word_rewrites.sums_in_addition import RequantizeWhileAdding
from pefslc.targets.tensil.word_rewrites.sums_in_packing import RequantizeWhilePacking
from pefslc.targets.tensil.words.bent_requantize import Bends, split_bends
from pefslc.targets.tensil.words.channel_fits import ChannelFits
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.text import print_words
from pefslc.targets.tensil.words.verify import faults_of_words
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["GROUP_REWRITES", "REWRITE_NAMES", "STAGES", "WORD_REWRITES", "Observer", "lower_graph"]

# Rewrites of groups in codes.
GROUP_REWRITES: tuple[Rewrite[GroupProgram], ...] = (
    PackInputs(),  # the host puts neighbouring pixels into the empty lanes of an image
    KeepActivations(),  # layers of few pixels: weights move, activations stay in the array
    FactorLeftovers(),  # channels beyond whole blocks: partial sums in the spare lanes
    PackLeftovers(),  # and neighbouring pixels of them in one vector
    GroupPixels(),  # few channels: several pixels in a vector. After those that look at single pixels
    PackRows(),  # and several rows of what is packed. Stays last
)
# Rewrites of groups in words.
WORD_REWRITES: tuple[Rewrite[WordProgram], ...] = (
    DropIdleClips(),  # clips of addends that the sum's own clip repeats
    RequantizeWhilePacking(),  # the MatMul that packs leftover channels also shifts and clips them
    SumBothDigits(),  # the sums over both digits of a tensor side by side: their weights are loaded once
    SplitLeftovers(),  # leftover channels of what is added, several pixels in a vector
    MergeAdditions(),  # fold-addends, requantize-while-adding: an addition clips, or shifts, what it adds
    StoreWithOffsets(),  # a constant that a result's last step would add: its readers' tiles do. Stays last
)
# The same for float models in the machine's own arithmetic, which rounds and saturates, and requantizes nothing.
# `FuseSums`, of the graph at hand, is the last one before placement.
NATIVE_BEFORE_MEASURING: tuple[Rewrite[GroupProgram], ...] = (
    PackInputs(),
    SplitMeans(),  # a mean in steps, each of which loses little
    FactorLeftovers(),
)
NATIVE_AFTER_MEASURING: tuple[Rewrite[GroupProgram], ...] = (
    PackLeftovers(),  # what it packs holds nothing larger
    GroupPixels(),
)
NATIVE_GROUP_REWRITES = NATIVE_BEFORE_MEASURING + NATIVE_AFTER_MEASURING
NATIVE_WORD_REWRITES: tuple[Rewrite[WordProgram], ...] = (RequantizeWhilePacking(), MergeAdditions())

_PARTS = FoldAddends.name, RequantizeWhileAdding.name
_OF_GROUPS = *(r.name for r in (*GROUP_REWRITES, *NATIVE_GROUP_REWRITES)), FuseSums.name
_OF_WORDS = *(r.name for r in (*WORD_REWRITES, *NATIVE_WORD_REWRITES)), *_PARTS
REWRITE_NAMES = tuple(dict.fromkeys((*_OF_GROUPS, *_OF_WORDS)))
# What `observe` can see, in order; then the target shows the schedule.
STAGES = tuple(
    name for name in dict.fromkeys(("select", *_OF_GROUPS, "place", *_OF_WORDS, "retry")) if name not in _PARTS
)

# Where bounds get too coarse, or memory too small, for what rewrites made, the next try does without some of them.
_TRIES: tuple[tuple[str, ...], ...] = (
    (),
    (KeepActivations.name,),
    (KeepActivations.name, FactorLeftovers.name, PackLeftovers.name, GroupPixels.name),
    (KeepActivations.name, FactorLeftovers.name, PackLeftovers.name, GroupPixels.name, StoreWithOffsets.name),
)

Observer = Callable[[str, str, bool], None]
"""Called with the name of a stage, the program after it as text, and whether the stage changed it."""


def lower_graph(
    model: Graph,
    context: Context,
    calibrate: Arrays | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
    fits: ChannelFits | None = None,
    *,
    batch: int = 1,
    any_words: bool = False,
    cycles: Callable[[LoweredNetwork], int] | None = None,
) -> LoweredNetwork:
    """The whole way, of a model whose batch is 1, to a program for so many pictures. Raises CompileError, with every
    fault, for what cannot be lowered.

    fits       what was searched before, in another attempt at the same network
    any_words  whether any words will do that are off by 1 at most, and no list of what differs is wanted
    cycles     modelled ones: exactness that takes too many is not paid for; None where the price does not matter
    """
    data_type = context.data_type
    if is_native(model, data_type):
        return _lower_natively(model, context, calibrate, progress, observe, batch)
    bends = split_bends(model, data_type)
    chosen: Chosen = {}

    def lower(corrections: frozenset[str] | None, known: ChannelFits, any_near: bool, quietly: bool) -> LoweredNetwork:
        watching = (None, None) if quietly else (progress, observe)
        return _lower_exactly(bends, context, corrections, known, chosen, *watching, batch=batch, any_words=any_near)

    def retry(reason: str) -> None:
        _retry(reason, observe)

    fits = fits or ChannelFits(data_type)
    return ExactFirst(bends.graph, context, fits, lower, retry, cycles, any_words).run()


def _lower_exactly(
    bends: Bends,
    context: Context,
    corrections: frozenset[str] | None,
    fits: ChannelFits,
    chosen: Chosen,
    progress: Progress | None,
    observe: Observer | None,
    *,
    batch: int,
    any_words: bool,
) -> LoweredNetwork:
    """`lower_graph` in words that nothing rounds. `corrections`: requantizations of narrow sums that are corrected;
    None for no correction, of wide sums either. `chosen`: how wide sums were made in another attempt.
    """
    data_type, graph, architecture = context.data_type, bends.graph, context.architecture
    wide = WideSums(graph) if context.allow_overflow else split_sums(graph, architecture, fits, corrections, chosen)
    _require_words(graph, wide, context)
    split = Split(bends, wide)
    selected = _selected(wide.graph, context, observe)
    changed: set[str] = set()

    def words_of(tried: Context) -> WordProgram:
        words = place(  # the rewritten groups are gone when the schedule is made: their weights are copies
            rewritten(selected, GROUP_REWRITES, tried, _GROUPS, lambda *event: _note_change(changed, event, observe)),
            data_type,
            allow_overflow=context.allow_overflow,
            fits=fits,
            any_words=any_words,
        )
        words = _rewritten_words(words, WORD_REWRITES, tried, observe)
        if any(tensor.offset for tensor in words.tensors.values()):  # the rows of their steps may be what is too much
            changed.add(StoreWithOffsets.name)
        return words

    def attempt(left_out: tuple[str, ...]) -> LoweredNetwork:
        words = words_of(context.without(*left_out))
        if batch == 1 or KeepActivations.name in left_out or KeepActivations.name not in changed:
            return LoweredNetwork(split, words, schedule_batch(words, context.architecture, batch, progress), None)
        # Weights that move serve one picture at a time; those that stay in the array may serve all.
        others, cycles = None, inf
        try:
            others = attempt((*left_out, KeepActivations.name))
            cycles = modelled_cycles(others.schedule, context.architecture)
            plan = schedule_batch_below(cycles, words, context.architecture, batch, progress)
        except CompileError as error:
            if others is not None:
                return others
            LOG.debug("%s stays in a batch of %d: without it, %s", KeepActivations.name, batch, error)
            plan = schedule_batch(words, context.architecture, batch, progress)
        if others is not None and (plan is None or modelled_cycles(plan, context.architecture) >= cycles):
            return others
        assert plan is not None
        return LoweredNetwork(split, words, plan, None)

    for left_out, later in ((names, _TRIES[i + 1 :]) for i, names in enumerate(_TRIES)):
        if left_out and not changed.intersection(left_out):
            continue  # it would be the try before
        try:
            return attempt(left_out)
        except CompileError as error:
            changed.difference_update(left_out)
            following = next((names for names in later if changed.intersection(names)), None)
            if following is None:
                raise
            _retry(f"without {', '.join(following)}: with them, {error}", observe)
    raise AssertionError("the last try has none behind it")


def _retry(reason: str, observe: Observer | None) -> None:
    LOG.debug(reason)
    if observe is not None:
        observe("retry", reason + "\n", True)


def _require_words(graph: Graph, wide: WideSums, context: Context) -> None:
    """Raise CompileError where a sum needs more bits than a word has, and there is no way to make it of words."""
    if not context.allow_overflow and (problems := list(overflows(graph, limits_of(context.data_type), wide.parts))):
        raise CompileError.of(problems)


def _note_change(changed: set[str], event: tuple[str, GroupProgram, bool], observe: Observer | None) -> None:
    name, program, is_changed = event
    if is_changed:
        changed.add(name)
    if observe is not None:
        observe(name, print_groups(program), is_changed)


def _lower_natively(
    graph: Graph,
    context: Context,
    calibrate: Arrays | None,
    progress: Progress | None,
    observe: Observer | None,
    batch: int,
) -> LoweredNetwork:
    data_type = context.data_type
    groups = _selected(graph, context, observe)
    # Without multiplications, or with leaky ReLUs, packing does not requantize: pack-leftovers must not count on it.
    cautious = context.without(RequantizeWhilePacking.name)
    groups = rewritten(groups, NATIVE_BEFORE_MEASURING, cautious, _GROUPS, _shown_groups(observe))
    magnitudes = proven_magnitudes(graph, groups) if calibrate is None else measure_magnitudes(graph, groups, calibrate)
    groups = rewritten(groups, NATIVE_AFTER_MEASURING, cautious, _GROUPS, _shown_groups(observe))
    scales = NativeScales.of(graph, groups)
    groups = rewritten(groups, [FuseSums.of(graph, groups)], context, _GROUPS, _shown_groups(observe))

    def place_with(headroom: int) -> NativePlacement:
        exponents = choose_exponents(groups, scales, data_type, magnitudes, headroom)
        return place_natively(groups, scales, data_type, exponents, measured=calibrate is not None)

    saturates = None
    if calibrate is not None:
        placed = place_with(HEADROOM)
    else:  # what is proven needs no headroom, if the words hold it with all that was rounded
        placed = place_with(1)
        if saturates := any(may_saturate(placed.words, data_type)):
            placed = place_with(HEADROOM)
            saturates = any(may_saturate(placed.words, data_type))
    # The rewrites of words that follow are certified to give the same words: the errors are those of what is placed.
    report = NativeReport.of(graph, groups, placed, magnitudes, saturates=saturates)
    words = _rewritten_words(placed.words, NATIVE_WORD_REWRITES, context, observe)
    plan = schedule_batch(words, context.architecture, batch, progress)
    return LoweredNetwork(Split(Bends(graph), WideSums(graph)), words, plan, report)


def _selected(graph: Graph, context: Context, observe: Observer | None) -> GroupProgram:
    selected = select(graph)
    if context.plain_host:
        selected = with_plain_ends(selected, context.architecture.array_size, dense=context.dense_inputs)
    require_legal(selected, "selection", context, _GROUPS)
    if observe is not None:
        observe("select", print_groups(selected), True)
    return selected


def _rewritten_words(
    words: WordProgram, rewrites: tuple[Rewrite[WordProgram], ...], context: Context, observe: Observer | None
) -> WordProgram:
    require_legal(words, "placement", context, _WORDS)
    if observe is None:
        return rewritten(words, rewrites, context, _WORDS)
    observe("place", print_words(words), True)
    return rewritten(
        words, rewrites, context, _WORDS, lambda name, after, changed: observe(name, print_words(after), changed)
    )


def _shown_groups(observe: Observer | None) -> Callable[[str, GroupProgram, bool], None] | None:
    if observe is None:
        return None
    return lambda name, after, changed: observe(name, print_groups(after), changed)


def _faults_of_words(program: WordProgram, context: Context) -> list[str]:
    return faults_of_words(program, context.data_type, allow_overflow=context.allow_overflow)


_GROUPS: Form[GroupProgram] = Form(lambda program, _: faults_of_groups(program), print_groups)
_WORDS: Form[WordProgram] = Form(_faults_of_words, print_words)
