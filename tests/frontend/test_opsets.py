"""Versions of ONNX and of QONNX's domains: the same file at any of them, and what is taken for granted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import pefslc
from builders import ModelBuilder, import_bytes
from pefslc.frontend import constants, operators, survey_model

ADDED_ATTRIBUTES = {
    "Cast": {"round_mode"},  # of float8 only
    "DequantizeLinear": {"output_dtype"},  # the float type of the result
    "QuantizeLinear": {"precision"},  # refused where it is given
}


@pytest.mark.parametrize("opset", [23, 24, 25])
def test_what_is_read_has_not_changed_since_opset_22(opset: int) -> None:
    """By the schemas of the installed onnx: the same operands, no attribute but those that were looked at."""
    if onnx.defs.onnx_opset_version() < opset:
        pytest.skip("the installed onnx does not know this opset")
    evaluated = constants._ELEMENTWISE | constants._NOT_LARGER | constants._OF_A_SHAPE | {"Gather", "Range", "Shape"}
    known = 0
    for name in sorted({op for domain, op in operators.OPERATORS if not domain} | evaluated):
        try:
            old, new = (onnx.defs.get_schema(name, version, "") for version in (22, opset))
        except onnx.defs.SchemaError:
            continue  # Upsample ended with opset 10
        known += 1
        assert [i.name for i in old.inputs] == [i.name for i in new.inputs]
        assert set(new.attributes) - set(old.attributes) <= ADDED_ATTRIBUTES.get(name, set()), name
        defaults = [{n: a.default_value for n, a in schema.attributes.items()} for schema in (old, new)]
        assert all(str(defaults[1][n]) == str(value) for n, value in defaults[0].items()), name
    assert known > 60


def network(opset: int = 13, **options: object) -> onnx.ModelProto:
    m = ModelBuilder(opset=opset, **options)  # type: ignore[arg-type]
    scale = m.node("Div", m.constant(1.0), m.constant(8.0))
    x = m.node("DequantizeLinear", m.node("QuantizeLinear", m.input((1, 2, 4, 4)), scale), scale)
    x = m.node("Conv", x, m.weight(np.ones((2, 2, 3, 3)) / 4), pads=[1] * 4)
    m.output(m.quant(m.node("Reshape", m.node("Relu", x), m.constant([1, -1], dtype=np.int64))))
    return m.build()


@pytest.mark.parametrize("opset", [22, 23, 24, 25])
def test_a_network_of_any_opset(opset: int, tmp_path: Path) -> None:
    assert import_bytes(network(opset), tmp_path).ops == import_bytes(network(), tmp_path).ops


def test_a_precision_of_the_division_is_refused(tmp_path: Path) -> None:
    model = network(23)
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    node.attribute.append(onnx.helper.make_attribute("precision", onnx.TensorProto.FLOAT16))
    with pytest.raises(pefslc.CompileError, match="QuantizeLinear with precision=10 is not supported"):
        import_bytes(model, tmp_path)


@pytest.mark.parametrize("domain", ["onnx.brevitas", "finn.custom_op.general", "qonnx.custom_op.general"])
def test_a_known_domain_that_is_not_imported_is_its_version_1_with_a_note(domain: str, tmp_path: Path) -> None:
    model = network(quant_domain=domain, quant_version=1)
    expected = import_bytes(model, tmp_path).ops
    del model.opset_import[1]
    assert import_bytes(model, tmp_path).ops == expected
    path = tmp_path / "model.onnx"
    note = f"domain '{domain}' is used but not imported by the file: taken as its version 1"
    assert survey_model(path).notes == (note,)
    assert pefslc.compile(path, target="c").notes == (note,)
