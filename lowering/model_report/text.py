"""A report as text, every number of it: the same in a terminal, in a pipe and in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pefslc.diagnostics.text_table import plain_table
from pefslc.model_report.comparison import Comparison
from pefslc.model_report.distributions import Distribution
from pefslc.model_report.model import LayerDetail, ModelReport
from pefslc.reports.saturation import percent

__all__ = ["report_text"]


def report_text(report: ModelReport, against: Comparison | None = None) -> str:
    """The sections of the page, in its order, as tables."""
    sections = [_summary(report)]
    if against is not None:
        sections.append(_comparison(against))
    sections += [_layers(report), *_costs(report), *_memories(report), *_distributions(report), *_curves(report)]
    sections += [*_float_model(report), _network(report), _files(report)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose columns from `left` on are numbers; nothing where there are no rows."""
    if not rows:
        return ""
    return f"{title}\n{plain_table(header, rows, frozenset(range(left, len(header))))}"


def _summary(report: ModelReport) -> str:
    where = report.target if report.arch is None else f"{report.target} ({report.arch})"
    lines = [f"{report.model} on {where}", report.verdict]
    if report.cycles is not None:
        lines.append(f"{report.cycles:,} modelled cycles")
    ms = report.milliseconds
    if ms and report.clock is not None:
        at = f"{report.clock.mhz:g} MHz ({report.clock.source})"
        lines.append(f"modelled: {ms:,.3f} ms, {1e3 / ms:,.1f} frames a second, at {at}")
    lines.append(f"{report.macs:,} MACs in {len(report.layers)} layers")
    lines.append(f"widest sum {report.widest_accumulator} of {report.accumulator_bits} bits: {report.accumulator}")
    for i in report.inputs:
        lines.append(f"input {i.name} {list(i.shape)}: {i.format}")
    for o in report.outputs:
        lines.append(f"output {o.name} {list(o.shape)}: codes {o.low:,} to {o.high:,}")
    if report.given_rows:
        lines.append(f"{report.seen_rows:,} of {report.given_rows:,} given rows were run")
    if report.costs is not None and report.costs.footprint is not None:
        lines += report.costs.footprint.lines()
    lines += [str(clipped) for clipped in report.clipped_inputs]
    return "\n".join([*lines, *report.notes])


def _comparison(against: Comparison) -> str:
    rows = [
        (f"{c.name}{f', {c.unit}' if c.unit else ''}", f"{c.before:,g}", f"{c.after:,g}", c.verdict)
        for c in against.totals
    ]
    lines = [_table(f"against {against.other}", ("", "before", "now", ""), rows)]
    lines += [f"{layer.layer}: {'; '.join(text for text, _ in layer.changes)}" for layer in against.layers]
    lines += [f"only here: {', '.join(against.added)}"] if against.added else []
    lines += [f"only there: {', '.join(against.removed)}"] if against.removed else []
    return "\n".join(lines)


def _layers(report: ModelReport) -> str:
    header = (
        "layer", "op", "in", "weight", "out", "exact", "bits", "there", "headroom", "proved sums", "seen sums", "MACs",
        "cycles",
    )  # fmt: skip
    table = _table("layers", header, [_layer(n, layer) for n, layer in enumerate(report.layers, 1)], left=6)
    lines = []
    for number, layer in enumerate(report.layers, 1):
        merged = ", ".join(f"{m.operator} {m.node}" for m in layer.merged)
        told = [layer.row.implementation, f"merged in: {merged}" if merged else "", *map(str, layer.row.deviations)]
        lines.append(f"{number} {layer.row.layer} {list(layer.row.shape)}: {'; '.join(filter(None, told))}")
    return "\n".join([table, *lines]) if lines else table


def _layer(number: int, layer: LayerDetail) -> tuple[str, ...]:
    row, sums = layer.row, layer.sums
    seen = "" if sums is None or sums.seen_low is None else f"{sums.seen_low}..{sums.seen_high}"
    return (
        f"{number} {row.layer}", row.op, row.input, row.weight, row.output, "exact" if row.exact else "bounded",
        _or_blank(row.accumulator_bits), _or_blank(row.available_bits), _or_blank(layer.headroom_bits),
        "" if sums is None else f"{sums.low}..{sums.high}", seen, f"{row.macs:,}", _or_blank(row.cycles),
    )  # fmt: skip


def _or_blank(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _costs(report: ModelReport) -> Iterator[str]:
    costs = report.costs
    if costs is None:
        return
    total = costs.total
    header = ["row", "MACs", "useful"]
    header += ["cycles", *total.cycles, "of peak"] if total.cycles else []
    header += [*(f"{key} B" for key in total.bytes), *(f"{m.name} of {m.available:,}" for m in costs.memories)]
    header += ["instr."] if total.instructions is not None else []
    rows = []
    for cost in (*costs.layers, total):
        cells = [cost.layer, f"{cost.macs:,}", f"{cost.useful_macs:,}"]
        if total.cycles:
            share = costs.peak_share(cost)
            cells += [_or_blank(cost.total_cycles), *(f"{cost.cycles.get(kind, 0):,}" for kind in total.cycles)]
            cells.append("" if share is None else f"{share:.1%}")
        cells += [f"{cost.bytes.get(key, 0):,}" for key in total.bytes]
        cells += [f"{cost.peaks.get(m.name, 0):,}" for m in costs.memories]
        cells += [_or_blank(cost.instructions)] if total.instructions is not None else []
        rows.append(cells)
    yield _table("costs; cycles are modelled", header, rows)
    points = [
        (costs.layers[p.cost].layer, "none moves" if p.macs_per_byte is None else f"{p.macs_per_byte:.4g}",
         f"{p.macs_per_cycle:.4g}")
        for p in report.roofline
    ]  # fmt: skip
    roof = f"roofline: {costs.peak_macs} MACs a cycle, {report.bytes_per_cycle} bytes a cycle"
    yield _table(roof, ("row", "MACs a byte", "MACs a cycle"), points)


def _memories(report: ModelReport) -> Iterator[str]:
    for line in report.timelines:
        kind = "moved in each part" if line.moves else "held"
        title = f"{line.memory}, {line.unit} {kind}: {len(line.values)} equal parts of {line.end:,} {line.time_unit}"
        yield f"{title}\n{' '.join(map(str, line.values))}"
    blocks = [(b.name, f"{b.offset:,}", f"{b.size:,}", str(b.first), str(b.last)) for b in report.blocks]
    yield _table("buffers of the working memory", ("buffer", "at byte", "bytes", "first step", "last step"), blocks)


def _distributions(report: ModelReport) -> Iterator[str]:
    header = (
        "tensor", "format", "holds", "step", "count", "zeros", "range", "mean", "deviation", "quartiles of magnitudes",
        "saturate", "become 0", "idle bits",
    )  # fmt: skip
    weights = [(layer.row.layer, layer.weights) for layer in report.layers]
    values = [
        *((i.name, i.values) for i in report.inputs),
        *((layer.row.layer, layer.values) for layer in report.layers),
    ]
    for title, tensors in (("weights", weights), ("values before rounding", values)):
        known = [(name, d) for name, d in tensors if d is not None]
        yield _table(title, header, [_distribution(name, d) for name, d in known], left=2)
        for name, d in known:
            h = d.histogram
            each = f"{h.width} code{'' if h.width == 1 else 's'} each"
            yield f"{title} of {name}, from code {h.first}, {each}: {' '.join(map(str, h.counts))}"


def _distribution(name: str, d: Distribution) -> tuple[str, ...]:
    magnitudes = "" if d.magnitudes is None else " ".join(f"{m:.4g}" for m in d.magnitudes)
    return (
        name, d.format, f"{d.held[0]:.4g}..{d.held[1]:.4g}", f"{d.step:.4g}", f"{d.count:,}", f"{d.zeros:,}",
        f"{d.low:.4g}..{d.high:.4g}", f"{d.mean:.4g}", f"{d.deviation:.4g}", magnitudes,
        f"{d.clipped:,}", f"{d.vanished:,}", f"{d.idle_bits:g}",
    )  # fmt: skip


def _curves(report: ModelReport) -> Iterator[str]:
    for number, layer in enumerate(report.layers, 1):
        curve = layer.curve
        if curve is None:
            continue
        merged = ", ".join([*curve.stages, "quantize"])
        which = f", channel {curve.channel} of {curve.channels}" if curve.channels > 1 else ""
        steps = " ".join(f"{at}:{code}" for at, code in zip(curve.at, curve.codes, strict=True))
        left_out = f", {curve.left_out:,} steps left out" if curve.left_out else ""
        title = f"staircase of {number} {layer.row.layer} ({merged}{which}), sums {curve.low} to {curve.high}{left_out}"
        yield f"{title}\n{curve.start} {steps}".rstrip()


def _float_model(report: ModelReport) -> Iterator[str]:
    measured = report.float_model
    if measured is None:
        return
    rows = [
        (t.name, t.format or "sum", t.weight, f"{t.low:.4g}..{t.high:.4g}", percent(t.clipped) if t.format else "",
         f"{t.noise.snr_db:.1f}")
        for t in measured.tensors
    ]  # fmt: skip
    header = ("tensor", "format", "weight", "range", "clipped", "SNR dB")
    yield _table(f"against the float model, on {measured.rows:,} rows", header, rows, left=3)
    for name, noise in measured.outputs.items():
        yield f"output {name}: {noise.snr_db:.1f} dB signal to noise"
    yield "\n".join(map(str, measured.distance.errors))
    if measured.accuracy is not None:
        a = measured.accuracy
        right = f"float {a.float_right}, quantized {a.quantized_right} of {a.count}"
        yield f"top-1: {right} right; the same class for {a.same}"


def _network(report: ModelReport) -> str:
    titles = {
        n.key: f"{n.title} ({n.kind})" if n.layer is None else f"{n.layer + 1} {n.title}" for n in report.network.nodes
    }
    edges = [(titles[e.source], titles[e.target], e.format, "x".join(map(str, e.shape))) for e in report.network.edges]
    return _table("network", ("from", "to", "format", "shape"), edges, left=4)


def _files(report: ModelReport) -> str:
    return _table("files", ("file", "bytes"), [(name, f"{size:,}") for name, size in report.files.items()])
