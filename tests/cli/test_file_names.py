"""File names that every system takes, from names that may be anything."""

from __future__ import annotations

import re

import pytest
from cli_support import WINDOWS_DEVICES, can_be_made_on_windows
from hypothesis import given
from hypothesis import strategies as st

from pefslc.files.file_names import is_file_name, not_a_device, safe_file_name
from pefslc.targets.c.naming import model_prefix
from pefslc.targets.tensil.host_io import host_io_module

DEVICES = sorted(WINDOWS_DEVICES)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("resnet9_q2_3", "resnet9_q2_3"),
        ("my model (1)", "my_model_1_"),
        ("..", "model"),
        ("", "model"),
        ("-rf", "rf"),
        ("a/b\\c", "a_b_c"),
        ("con", "con_model"),
        ("COM1", "COM1_model"),
        ("nul.tar.gz", "nul_model.tar.gz"),
        ("con ", "con_"),
        ("com10", "com10"),
        ("console", "console"),
        ("..aux", "aux_model"),
        ("net. ", "net._"),
        ("Füße\n", "F_e_"),
        ("x" * 300, "x" * 100),
        ("x" * 99 + ".y", "x" * 99),
    ],
)
def test_names_become_safe_file_names(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("end", ["", ".", " ", ".x", ".v1.2", " .x", "_io", "_"])
def test_a_device_of_windows_is_no_files_name(device: str, end: str) -> None:
    for name in (device + end, device.lower() + end, device.title() + end):
        safe = safe_file_name(name)
        prefix = model_prefix(safe)
        for file in (
            safe,
            f"{safe}.tprog",
            f"{safe}.c.json",
            f"{host_io_module(safe)}.py",
            f"{prefix}.c",
            f"{prefix}.h",
        ):
            assert can_be_made_on_windows(file), (name, file)


@given(st.text() | st.sampled_from(DEVICES).flatmap(lambda d: st.text().map(lambda t: d + t)))
def test_every_name_becomes_one_that_windows_takes(name: str) -> None:
    safe = safe_file_name(name)
    assert can_be_made_on_windows(safe)
    assert can_be_made_on_windows(f"{model_prefix(name)}.c")
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", safe)
    assert safe_file_name(safe) == safe
    assert not_a_device(safe) == safe


@given(st.text(max_size=5) | st.sampled_from(DEVICES).flatmap(lambda d: st.text(max_size=2).map(lambda t: d + t)))
def test_a_target_of_others_names_files_that_windows_takes(name: str) -> None:
    hidden = name.startswith(".") or not name.isprintable()
    assert is_file_name(name) == (can_be_made_on_windows(name) and not hidden)
