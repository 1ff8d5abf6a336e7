"""The JSON Schema of `pefslc report --json`, and of the file beside its page."""

from __future__ import annotations

from pefslc.console.schema_parts import (
    CLIPPED,
    COSTS,
    COUNT,
    DEVIATIONS,
    DISTANCE,
    LAYER_KEYS,
    NUMBER,
    RANGE,
    SHAPE,
    SHARE,
    SWITCH,
    TEXT,
    WHOLE,
    Schema,
    described,
    list_of,
    map_of,
    or_null,
    record,
    with_optional,
)

__all__ = ["REPORT"]

_CODES: Schema = {**list_of(WHOLE), "minItems": 2, "maxItems": 2}

_DISTRIBUTION = described(
    record(
        format=TEXT,
        format_codes=_CODES,
        format_step=NUMBER,
        format_range=RANGE,
        count=COUNT,
        zeros=COUNT,
        range=RANGE,
        mean=NUMBER,
        standard_deviation=NUMBER,
        magnitude_quartiles=described(
            or_null({**list_of(NUMBER), "minItems": 5, "maxItems": 5}),
            "least, quartiles, largest of the absolute values that are not 0; null where all are",
        ),
        clipped=described(COUNT, "values that saturate"),
        vanished=described(COUNT, "values other than 0 that become 0"),
        idle_bits=described(NUMBER, "how often the range could be halved and still hold every value"),
        histogram=described(
            record(first_code=WHOLE, codes_each=COUNT, counts=list_of(COUNT)), "over codes, those that clip included"
        ),
    ),
    "the values of a tensor before they are rounded, against their format",
)
_CURVE = described(
    record(
        domain=_CODES,
        stages=list_of(TEXT, "what was merged into it"),
        channels=COUNT,
        channel=described(COUNT, "the one that is listed"),
        code_at_start=WHOLE,
        steps_at=list_of(WHOLE, "accumulator codes at which the code changes"),
        codes=list_of(WHOLE, "from each of them on"),
        earliest=list_of(WHOLE, "of all channels that rise alike"),
        latest=list_of(WHOLE),
        steps_left_out=COUNT,
    ),
    "how sums become codes",
)
_LAYER = with_optional(
    record(
        **LAYER_KEYS,
        exact=SWITCH,
        cycles=described(or_null(COUNT), "modelled"),
        implementation=TEXT,
        headroom_bits=described(or_null(WHOLE), "of the accumulator, proved; below 0, sums may overflow"),
        merged=list_of(record(operator=TEXT, node=TEXT), "nodes of the file that became a part of the layer"),
        sums=or_null(record(proved=_CODES, seen=described(or_null(_CODES), "null without --inputs"))),
        step_curve=or_null(_CURVE),
        weights=or_null(_DISTRIBUTION),
        values=described(or_null(_DISTRIBUTION), "null without --inputs"),
        snr_db=described(or_null(NUMBER), "against the float model; null also where nothing differs"),
        cost_row=described(or_null(COUNT), "index in costs.layers; several layers may have one row"),
    ),
    deviations=list_of(DEVIATIONS),
)
_TENSOR_NOISE = record(
    tensor=TEXT, format=TEXT, weight=TEXT, range=RANGE, clipped=SHARE,
    snr_db=described(or_null(NUMBER), "null where nothing differs"),
)  # fmt: skip
_FLOAT_MODEL = described(
    with_optional(
        record(
            rows=COUNT,
            tensors=list_of(_TENSOR_NOISE),
            narrowed=list_of(TEXT),
            outputs=map_of(record(snr_db=or_null(NUMBER))),
            distance=DISTANCE,
        ),
        accuracy=record(rows=COUNT, float=COUNT, quantized=COUNT, same_class=COUNT),
    ),
    "against the float model; null without one, and without --inputs or --calibrate",
)
_VERDICT: Schema = {"enum": ["better", "worse", "same", "other"]}
_AGAINST = described(
    record(
        other=TEXT,
        totals=list_of(
            record(
                name=TEXT, unit=TEXT, before=NUMBER, after=NUMBER, better={"enum": ["less", "more"]}, verdict=_VERDICT
            )
        ),
        layers=list_of(record(layer=TEXT, changes=list_of(record(text=TEXT, verdict=_VERDICT)))),
        added_layers=list_of(TEXT),
        removed_layers=list_of(TEXT),
    ),
    "null without --against",
)

REPORT: Schema = record(
    report_format=described(COUNT, "counts up where a key changes its meaning"),
    pefslc=TEXT,
    model=TEXT,
    target=TEXT,
    arch=or_null(TEXT),
    exact=SWITCH,
    exact_to=TEXT,
    verdict=TEXT,
    quantized_to=or_null(TEXT),
    native_format=or_null(TEXT),
    accumulator=record(name=TEXT, bits=COUNT, needed=COUNT),
    macs=COUNT,
    modelled_cycles=or_null(COUNT),
    clock=or_null(record(mhz=NUMBER, source=TEXT)),
    modelled_milliseconds=or_null(NUMBER),
    modelled_frames_per_second=or_null(NUMBER),
    inputs=list_of(record(name=TEXT, shape=SHAPE, format=TEXT, values=or_null(_DISTRIBUTION))),
    outputs=list_of(record(name=TEXT, shape=SHAPE, codes=_CODES)),
    layers=list_of(_LAYER),
    network=record(
        nodes=list_of(
            record(
                node=TEXT,
                kind={"enum": ["input", "output", "layer", "move"]},
                title=TEXT,
                what=TEXT,
                layer=described(or_null(COUNT), "index in layers"),
            )
        ),
        edges=list_of(record(**{"from": TEXT, "to": TEXT, "format": TEXT, "shape": SHAPE})),
    ),
    costs=or_null(COSTS),
    cost_rows_begin=list_of(or_null(COUNT), "the modelled cycle at which each row of the costs begins"),
    bytes_per_cycle=described(or_null(COUNT), "of the bus to DRAM, at most"),
    roofline=list_of(
        record(
            cost_row=COUNT,
            macs_per_byte=described(or_null(NUMBER), "null where no byte moves"),
            macs_per_cycle=NUMBER,
        )
    ),
    timelines=list_of(
        record(
            memory=TEXT,
            unit=TEXT,
            kind={"enum": ["held", "moved"]},
            time_unit=TEXT,
            end=COUNT,
            values=list_of(COUNT, "of equal parts of the time to the end"),
        )
    ),
    buffers=list_of(
        record(memory=TEXT, buffer=TEXT, offset=COUNT, bytes=COUNT, first_step=COUNT, last_step=COUNT),
        "of C code's working memory",
    ),
    rows_given=described(COUNT, "of --inputs; 0 without"),
    rows_run=COUNT,
    clipped_inputs=list_of(CLIPPED),
    float_model=or_null(_FLOAT_MODEL),
    notes=list_of(TEXT),
    files=described(map_of(COUNT), "name to bytes, of what a compile writes"),
    against=or_null(_AGAINST),
)
