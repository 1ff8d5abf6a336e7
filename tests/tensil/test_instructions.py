"""The instructions' numbers, as the RTL has them."""

from __future__ import annotations

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import Invalid, SimdOperation
from pefslc.targets.tensil.program.encoding import decode, encode


def test_simd_operations_have_the_rtls_numbers() -> None:
    """Those of Tensil's SIMDOp.scala, in its order; no two are one."""
    in_order = "NOOP ZERO MOVE NOT AND OR INCREMENT DECREMENT ADD SUBTRACT MULTIPLY ABS GREATER_THAN GREATER_THAN_EQUAL"
    assert [SimdOperation(number).name for number in range(16)] == [*in_order.split(), "MIN", "MAX"]


def test_what_names_no_instruction_is_its_header_alone(small: Architecture) -> None:
    code = bytes(small.instruction_size_bytes - 1) + b"\x50"
    assert encode(small, [Invalid(0x50)]) == code
    assert decode(small, code) == [Invalid(0x50)]
