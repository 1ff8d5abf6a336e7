"""A user's passes: found in a file, run, and blamed by file and line when they fail."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from cli_support import Cli
from plugin_files import HALVE, HEADER, write

import pefslc as api
from builders import lower
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError


def test_the_passes_of_a_file_run_on_their_levels(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(
        tmp_path,
        ("on-integers", "INTEGER", "print('integers'); return graph"),
        ("on-values", "QUANTIZED", "print('values'); return graph"),
    )
    plugin.write_text(plugin.read_text().replace("class on-integers", "class A").replace("class on-values", "class B"))
    result = pefslc(
        model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a", "--print-ir-after", "on-values"
    )
    assert result.status == 0, result.err
    assert result.out.index("values") < result.out.index("integers")
    assert "// after on-values: unchanged" in result.out


@pytest.mark.parametrize(
    ("source", "message", "line"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'", 1),
        ("x = 1\ny = x +\n", "SyntaxError: invalid syntax", 2),
        ("\n\nraise ValueError('no')\n", "ValueError: no", 3),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye", 2),
    ],
)
def test_a_plugin_that_cannot_be_imported(
    pefslc: Cli, model: Path, tmp_path: Path, source: str, message: str, line: int
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(source)
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert result.status == 1
    assert f"error[PEF0904]: plugin '{plugin}' cannot be imported: {message}" in result.err
    assert f"  at:   {plugin}:{line}\n" in result.err
    assert "Traceback" not in result.err


def test_a_plugin_without_passes(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(HEADER + "class Helper: pass\n")
    result = pefslc(model, "--target", "fake", "--plugin", plugin)
    assert result.status == 1
    assert f"error[PEF0904]: plugin '{plugin}' defines no pass" in result.err
    assert "can be made without arguments" in result.err


def test_a_plugin_that_is_not_there(pefslc: Cli, model: Path) -> None:
    assert pefslc(model, "--target", "fake", "--plugin", "missing.py").status == 2
    assert "error[PEF0903]: no plugin 'missing'" in pefslc(model, "--target", "fake", "--plugin", "missing").err


def test_a_pass_that_fails_is_named_with_its_line(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Fails", "INTEGER", "return graph.ops[99]"))
    result = pefslc(model, "--target", "fake", "--plugin", plugin)
    assert result.status == 1
    assert "error[PEF0905]: plugin pass 'Fails' failed: IndexError: tuple index out of range\n" in result.err
    assert f"  at:   {plugin}:17\n" in result.err


def test_a_pass_that_returns_no_graph(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Forgets", "INTEGER", "graph.ops"))
    result = pefslc(model, "--target", "fake", "--plugin", plugin)
    assert result.status == 1
    assert "error[PEF0905]: plugin pass 'Forgets' returned NoneType, not a Graph" in result.err


def test_a_pass_that_breaks_the_graph_is_the_users_fault(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Breaks", "INTEGER", "return graph.with_ops(graph.ops[1:])"))
    result = pefslc(model, "--target", "fake", "--plugin", plugin)
    assert result.status == 1
    assert "error[PEF0905]: plugin pass 'Breaks' left an illegal graph: " in result.err


def test_a_pass_that_is_not_as_exact_as_it_says_is_caught_on_demand(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Halves", "INTEGER", HALVE))
    believed = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert believed.status == 0
    promise = "exactly what the file says, if pass 'Halves' keeps its promise (--check-passes compares)\n"
    assert promise in believed.out
    sidecar = json.loads((tmp_path / "a" / "mlp.fake.json").read_text())
    assert sidecar["details"]["exact_if_passes_are"] == ["Halves"]
    for demand in ("--check-passes", "--require-exact"):
        result = pefslc(model, "--target", "fake", "--plugin", plugin, demand)
        assert result.status == 1
        assert "pass 'Halves' says it is exact but changed output 'y'" in result.err


def test_verification_catches_a_plugin_that_changes_the_network(
    pefslc: Cli, model: Path, inputs: Path, tmp_path: Path
) -> None:
    plugin = write(tmp_path, ("Halves", "INTEGER", HALVE))
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "--verify", inputs)
    assert result.status == 1
    assert "differ: interpreter and float64 evaluation" in result.err


def test_a_bounded_pass_that_changed_the_model_is_never_called_exact(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Halves", "INTEGER", HALVE))
    plugin.write_text(plugin.read_text().replace("= Exactness.EXACT", "= Exactness.BOUNDED"))
    verdict = (
        "not what the file says: pass 'Halves' is not exact, and it changed the model; every layer computes exactly "
        "what the changed model says\n"
    )
    assert pefslc("check", model, "--target", "fake", "--plugin", plugin).out == f"mlp compiles for fake: {verdict}"
    out = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a").out
    assert verdict in out
    head = out.split("─")[0]
    assert "to the changed" in head
    assert "file" not in head
    sidecar = json.loads((tmp_path / "a" / "mlp.fake.json").read_text())
    assert sidecar["details"]["changing_passes"] == ["Halves"]


def test_a_bounded_pass_that_changed_nothing_is_not_mentioned(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Looks", "INTEGER", "return graph"))
    plugin.write_text(plugin.read_text().replace("= Exactness.EXACT", "= Exactness.BOUNDED"))
    result = pefslc("check", model, "--target", "fake", "--plugin", plugin)
    assert result.out == "mlp compiles for fake: every layer computes exactly what the file says\n"


def test_a_pass_that_exits_is_named(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Exits", "INTEGER", "import sys; sys.exit(0)"))
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert result.status == 1
    assert f"error[PEF0905]: plugin pass 'Exits' failed: SystemExit: 0\n  at:   {plugin}:17\n" in result.err


def test_a_class_that_exits_when_it_is_made_is_named(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Exits", "INTEGER", "return graph"))
    plugin.write_text(plugin.read_text() + "\n    def __post_init__(self) -> None:\n        raise SystemExit(0)\n")
    result = pefslc(model, "--target", "fake", "--plugin", plugin)
    assert result.status == 1
    assert f"error[PEF0904]: plugin class Exits cannot be made: SystemExit: 0\n  at:   {plugin}:20\n" in result.err


def test_a_file_imports_what_lies_beside_it_as_a_script_does(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    """And leaves no trace: two files of other folders have each its own helper, as it is now."""
    path = list(sys.path)
    for folder in ("one", "two"):
        (tmp_path / folder / "package").mkdir(parents=True)
        (tmp_path / folder / "package" / "inner.py").write_text("")
        (tmp_path / folder / "beside_it.py").write_text(f"WORD = {folder!r}\n")
        plugin = write(tmp_path / folder, (f"Says{folder}", "INTEGER", "print(beside_it.WORD); return graph"))
        plugin.write_text(f"import beside_it, package.inner\n{plugin.read_text()}")
    arguments = [word for folder in ("one", "two") for word in ("--plugin", tmp_path / folder / "mine.py")]
    assert pefslc("check", model, "--target", "fake", *arguments).out.startswith("one\ntwo\n")
    (tmp_path / "two" / "beside_it.py").write_text("WORD = 'now'\n")
    assert pefslc("check", model, "--target", "fake", *arguments).out.startswith("one\nnow\n")
    assert sys.path == path
    assert not {"beside_it", "package", "package.inner"} & set(sys.modules)
    assert not list(tmp_path.rglob("__pycache__"))
    (tmp_path / "two" / "beside_it.py").write_text("import nothing_of_that_name\n")
    refused = pefslc("check", model, "--target", "fake", *arguments)
    assert f"plugin '{tmp_path / 'two' / 'mine.py'}' cannot be imported: ModuleNotFoundError" in refused.err
    assert sys.path == path
    assert "beside_it" not in sys.modules


def test_a_class_that_another_pass_of_the_file_derives_from_does_not_run(
    pefslc: Cli, model: Path, tmp_path: Path
) -> None:
    plugin = write(tmp_path, ("Base", "INTEGER", "print('base', self.name); return graph"))
    derived = '\n\nclass {name}(Base):\n    name = "{name}"\n'
    plugin.write_text(plugin.read_text() + derived.format(name="First") + derived.format(name="Second"))
    ran = pefslc("check", model, "--target", "fake", "--plugin", plugin)
    assert ran.out.startswith("base First\nbase Second\nmlp compiles")
    needs = "\n\nclass Needs(Base):\n    def __init__(self, number):\n        pass\n"
    plugin = write(tmp_path, ("Base", "INTEGER", "print('base', self.name); return graph"))
    plugin.write_text(plugin.read_text() + needs)
    ran = pefslc("check", model, "--target", "fake", "--plugin", plugin)
    assert ran.out.startswith("base Base\nmlp compiles"), "one that cannot be made without arguments is no pass"


FLOATS = """from pefslc.ir.value import IntArray
        return graph.with_ops(
            replace(op, weight=IntArray(op.weight.data / 2)) if hasattr(op, "weight") else op for op in graph.ops
        )"""


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return replace(graph, ops=(1, 2))", "ops hold int where Op is needed"),
        ("return replace(graph, inputs=(1,))", "inputs hold int where GraphInput is needed"),
        ("return replace(graph, outputs=None)", "outputs are a NoneType, not a tuple"),
        ("return replace(graph, ops=list(graph.ops[:1]))", "ops are a list, not a tuple"),
        ("return replace(graph, inputs=(replace(graph.inputs[0], value=3),))", "AttributeError: "),
        ("return replace(graph, name=5)", "its name and level stay 'mlp' and integer"),
        ("return replace(graph, name='../../evil')", "its name and level stay 'mlp' and integer"),
        ("return replace(graph, name='')", "its name and level stay 'mlp' and integer"),
        ("return replace(graph, level=Level.QUANTIZED)", "its name and level stay 'mlp' and integer"),
    ],
)
def test_a_graph_of_wrong_types_is_the_users_fault(
    pefslc: Cli, model: Path, tmp_path: Path, body: str, fault: str
) -> None:
    plugin = write(tmp_path, ("Breaks", "INTEGER", body))
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert result.status == 1, result.err
    assert "error[PEF0905]: plugin pass 'Breaks' left an illegal graph: " in result.err
    assert fault in result.err


WIDENS = """op = graph.ops[0]
        codes = op.result.type.codes
        wide = replace(op.result, type=replace(op.result.type, element=replace(codes, high=codes.high + 1)))
        # READERS
        return graph.with_ops([replace(op, result=wide), *others])"""
STALE_READERS = "others = graph.ops[1:]"
NEW_READERS = """from pefslc.ir.graph import map_operands
        others = [map_operands(o, lambda v: wide if v.name == wide.name else v) for o in graph.ops[1:]]"""


def test_readers_that_were_forgotten_come_with_a_way_out(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Widens", "INTEGER", WIDENS.replace("# READERS", STALE_READERS)))
    result = pefslc("check", model, "--target", "fake", "--plugin", plugin)
    assert result.status == 1
    assert "with another type or origin than it is defined with: range [" in result.err
    assert "help: let what reads it read the new value: pefslc.ir.graph.map_operands; " in result.err
    plugin = write(tmp_path, ("Widens", "INTEGER", WIDENS.replace("# READERS", NEW_READERS)))
    result = pefslc("check", model, "--target", "fake", "--plugin", plugin)
    assert "another type" not in result.err


STAGES = """from pefslc.ir.quantized import Quantize
        from pefslc.numeric.stages import Affine
        from fractions import Fraction
        eight = Affine.bias((Fraction(0),) * 8)
        return graph.with_ops(
            replace(op, stages=(*op.stages, eight)) if isinstance(op, Quantize) else op for op in graph.ops
        )"""


@pytest.mark.parametrize(
    ("level", "body", "fault"),
    [
        ("QUANTIZED", STAGES, "a stage of 8 channels on 4 channels"),
        (
            "INTEGER",
            "return replace(graph, outputs=(replace(graph.outputs[0], name='z'),))",
            "its outputs are named 'z', and were 'y'",
        ),
        (
            "INTEGER",
            "return replace(graph, inputs=(replace(graph.inputs[0], name='z'),))",
            "its inputs are named 'z', and were 'x'",
        ),
    ],
)
def test_what_a_pass_leaves_illegal_is_its_own_fault_in_a_compile_and_in_opt(
    pefslc: Cli, model: Path, tmp_path: Path, level: str, body: str, fault: str
) -> None:
    plugin = write(tmp_path, ("Breaks", level, body))
    text, written = tmp_path / "x.ir", tmp_path / "y.ir"
    graph = api.load(model)
    text.write_text(str(graph if level == "QUANTIZED" else lower(graph)))
    compiled = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a", "--check-passes")
    alone = pefslc("opt", text, "--pass", plugin, "--verify", "-o", written)
    for result in (compiled, alone):
        assert result.status == 1, result.err
        assert "error[PEF0905]: plugin pass 'Breaks' left an illegal graph: " in result.err
        assert fault in result.err
        assert f"  at:   {plugin}\n" in result.err
    assert not written.exists()
    with pytest.raises(CompileError, match="plugin pass 'Breaks' left an illegal graph") as caught:
        api.compile(model, target="fake", plugins=[plugin])
    assert caught.value.problems[0].code is Code.PLUGIN_FAILED


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (FLOATS, "IntArray holds int64, not float64: IntArray(array.astype(np.int64))"),
        (FLOATS.replace("IntArray(", "(", 1), ".weight is a numpy array of float64, not IntArray: IntArray(array)"),
    ],
)
def test_a_field_of_a_wrong_type_is_named_where_the_operation_is_built(
    pefslc: Cli, model: Path, tmp_path: Path, body: str, fault: str
) -> None:
    plugin = write(tmp_path, ("Breaks", "INTEGER", body))
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert result.status == 1, result.err
    assert "error[PEF0905]: plugin pass 'Breaks' failed: TypeError: " in result.err
    assert fault in result.err
    line = 1 + next(n for n, text in enumerate(plugin.read_text().splitlines()) if "replace(op" in text)
    assert f"  at:   {plugin}:{line}" in result.err


def test_the_file_runs_as_it_is_now(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Talks", "INTEGER", "print('one'); return graph"))
    before = plugin.stat()
    arguments = ("check", model, "--target", "fake", "--plugin", plugin)
    assert "one\n" in pefslc(*arguments).out
    plugin.write_text(plugin.read_text().replace("one", "two"))
    os.utime(plugin, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time: a cache would not notice
    assert "two\n" in pefslc(*arguments).out
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize("name", ["fill-input", "fold-constants"])
def test_a_plugin_does_not_pose_as_a_pass_of_ours(pefslc: Cli, model: Path, tmp_path: Path, name: str) -> None:
    plugin = write(tmp_path, ("Halves", "INTEGER", HALVE))
    plugin.write_text(plugin.read_text().replace('= "Halves"', f'= "{name}"'))
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert result.status == 1
    assert result.err == f"error[PEF0902]: plugin pass '{name}' has the name of a pass of pefslc\n  help: rename it\n"


DOUBLES = """from pefslc.ir.integer import Rescale
        from pefslc.analysis.ranges import result_range
        end = graph.ops[-1].result
        last = Rescale(result=replace(end, name="doubled"), input=end, factor=2)
        # RANGE
        return graph.with_ops([*graph.ops, last]).with_outputs({end.name: last.result})"""
WITH_RANGE = """low, high = result_range(last)
        codes = replace(last.result.type.codes, low=low, high=high)
        last = replace(last, result=replace(last.result, type=replace(last.result.type, element=codes)))"""


def test_a_range_that_was_forgotten_comes_with_a_way_out_that_works(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("Doubles", "INTEGER", DOUBLES))
    plugin.write_text(plugin.read_text().replace("= Exactness.EXACT", "= Exactness.CHANGES"))
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert result.status == 1
    assert "the codes reach" in result.err
    assert "help: give the result the range of pefslc.analysis.ranges.result_range(op); " in result.err
    plugin.write_text(plugin.read_text().replace("# RANGE", WITH_RANGE))
    result = pefslc(model, "--target", "fake", "--plugin", plugin, "-o", tmp_path / "a")
    assert result.status == 0, result.err
