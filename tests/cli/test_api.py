"""The same from Python: compile, load, Program; and what verification counts as equal."""

from __future__ import annotations

import ast
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import FakeTarget, quantized_mlp

import pefslc
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.ir.graph import GraphOutput, Level, OutputMap
from pefslc.ir.interpret import quantize_input, run_codes
from pefslc.ir.value import CodeRange, TensorType, Value
from pefslc.numeric.scale import Scale
from pefslc.passes.dead_code import RemoveDeadCode
from pefslc.verification.comparison import compare_codes, compare_values

ROOT = Path(__file__).resolve().parents[2]


def test_the_public_names_are_loaded_when_used() -> None:
    assert set(pefslc.__all__) <= set(dir(pefslc))
    for name in pefslc.__all__:
        assert getattr(pefslc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'kompile'"):
        pefslc.kompile  # noqa: B018  # the lookup is the test


def test_a_model_is_loaded_printed_and_run(model: Path, inputs: Path) -> None:
    graph = pefslc.load(model)
    arrays = np.load(inputs)
    assert graph.level is Level.QUANTIZED
    assert str(graph).startswith('graph "mlp" quantized\n')
    assert (graph.run(arrays["x"])["y"] == arrays["y_ref64"]).all()


def test_no_rows_are_refused_on_every_level(model: Path) -> None:
    program = pefslc.compile(model, target="fake")
    for execute in (pefslc.load(model).run, program.graph.run, program.run, lambda x: program.verify({"x": x})):
        with pytest.raises(pefslc.CompileError, match="input 'x' is empty"):
            execute(np.zeros((0, 4)))


def test_a_program_runs_verifies_and_saves(model: Path, inputs: Path, tmp_path: Path) -> None:
    program = pefslc.compile(model, target="fake", fmt="Q2.3", verify=inputs)
    arrays = dict(np.load(inputs))
    assert program.name == "mlp"
    assert (program.run(arrays["x"])["y"] == arrays["y_ref64"]).all()
    assert (program.run({"x": arrays["x"]})["y"] == arrays["y_ref64"]).all()
    assert (program.graph.run(arrays["x"])["y"] == arrays["y_ref64"]).all()
    assert program.verify(arrays).equal
    assert program.verify({"x": arrays["x"]}).inputs == 8
    assert [p.name for p in program.save(tmp_path / "new" / "build")] == ["mlp.fake", "mlp.fake.json"]
    assert [row.layer for row in program.layers] == ["fc"]


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_program_gives_the_codes_that_its_artifacts_compute(target: str) -> None:
    program = pefslc.compile(ROOT / "examples/cnn_bnfold_q2_3.onnx", target=target)
    (graph_input,), (output,) = program.graph.inputs, program.graph.outputs
    x = np.load(ROOT / "examples/cnn_bnfold_q2_3.npz")["x"][:3]
    codes = program.run(x, codes=True)["output"]
    assert codes.dtype == np.int64
    expected = run_codes(program.graph, {graph_input.name: quantize_input(graph_input, x)})
    assert np.array_equal(codes, expected[output.value.name])
    assert output.map is not None
    classes = codes.shape[1]
    scale, offset = (part * classes if len(part) == 1 else part for part in (output.map.scale, output.map.offset))
    values = [[float(s * int(c) + o) for s, c, o in zip(scale, row, offset, strict=True)] for row in codes]
    assert values == program.run(x)["output"].tolist()
    with pytest.raises(CompileError, match="codes is '1', not True or False"):
        program.run(x, codes=1)  # type: ignore[call-overload]


def test_every_expected_array_is_compared(model: Path, inputs: Path) -> None:
    program = pefslc.compile(model, target="fake")
    arrays = dict(np.load(inputs))
    both = program.verify({**arrays, "y": arrays["y_ref64"]})
    assert both.equal
    assert [c.compared for c in both.comparisons][2:] == ["fake and 'y_ref64'", "fake and 'y'"]
    wrong = arrays["y_ref64"] + 1
    for changed in ({"y": wrong}, {"y": arrays["y_ref64"], "y_ref64": wrong}):
        found = program.verify({**arrays, **changed})
        assert not found.equal
        with pytest.raises(CompileError, match="does the array belong to these inputs and to this model"):
            found.require()
    with pytest.raises(CompileError, match="the expected array 'y' holds NaN or infinity"):
        program.verify({**arrays, "y": np.full_like(wrong, np.nan)})


def test_arrays_of_nothing_in_particular_are_passed_over(model: Path, inputs: Path) -> None:
    program = pefslc.compile(model, target="fake")
    assert program.verify({**np.load(inputs), "labels": np.array(["cat", "dog"])}).equal


def test_a_program_is_shown_in_one_line(model: Path) -> None:
    assert repr(pefslc.compile(model, target="fake")) == "<Program 'mlp' for fake: 1 layer, exact to the file>"


def test_a_target_may_be_an_object(model: Path) -> None:
    assert pefslc.compile(model, target=FakeTarget()).target.name == "fake"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fmt": "2.3"}, "'2.3' is not a format"),
        ({"target": "fpga"}, "unknown target 'fpga'"),
        ({"target": "c", "arch": "pynqz1"}, "arch (--arch) is an option of target 'tensil', not of 'c'"),
        (
            {"target": "tensil", "caller_arena": True},
            "caller_arena (--caller-arena) is an option of target 'c', not of 'tensil'",
        ),
        ({"verify": "nothing.npz"}, "no such file: 'nothing.npz'"),
        ({"verify": {"z": np.zeros((1, 4))}}, "no array for input 'x'"),
        ({"verify": {"x": np.zeros((1, 4), bool)}}, "input 'x' holds bool, not numbers"),
        ({"verify": {"x": np.zeros((1, 4), complex)}}, "input 'x' holds complex128, not numbers"),
        ({"verify": {"x": np.zeros((0, 4))}}, "input 'x' is empty"),
        ({"verify": {"x": np.zeros((1, 4)), "y": np.zeros((2, 3))}}, "output 'y' has [1, 3]"),
        ({"plugins": ["nothing.py"]}, "no such plugin file: 'nothing.py'"),
        ({"plugins": "nothing.py"}, "no such plugin file: 'nothing.py'"),
        ({"plugins": Path("nothing.py")}, "no such plugin file: 'nothing.py'"),
        ({"plugins": [5]}, "plugin '5' is not a pass"),
        ({"plugins": 5}, "plugin '5' is not a pass"),
        ({"plugins": [RemoveDeadCode]}, "RemoveDeadCode'>' is not a pass"),
        ({"fmt": (2, 3)}, "'(2, 3)' is not a format"),
        ({"target": None}, "'None' is not a target"),
        ({"target": FakeTarget}, "FakeTarget'>' is not a target"),
        ({"target": object()}, "'<object object>' is not a target"),
        ({"plugins": [object()]}, "plugin '<object object>' is not a pass"),
        ({"arch": {}}, "arch (--arch) is '{}', not a name"),
        ({"arch": ""}, "arch (--arch) is '', not a name"),
        ({"target": "tensil", "arch": Path("nothing")}, "unknown architecture 'nothing'"),
    ],
)
def test_mistakes_are_compile_errors(model: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(pefslc.CompileError) as raised:
        pefslc.compile(model, **{"target": "fake", **options})  # type: ignore[arg-type]
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (5, {}, "'5' is not a model\n  help: the path of an ONNX file, or a torch network"),
        (None, {"example": np.zeros((1, 4))}, "'None' is not a model"),
        (
            "mlp.onnx",
            {"example": np.zeros((1, 4))},
            "an example is for a torch network, not for a file like 'mlp.onnx'",
        ),
    ],
)
def test_what_is_no_model_is_a_compile_error(given: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(pefslc.CompileError) as raised:
        pefslc.compile(given, target="fake", **options)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_without_the_extra_train_says_what_to_install(tmp_path: Path) -> None:
    """For `import` an ImportError, for the user of a plugin that needs it a refusal."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text("import pefslc.train\n")
    code = """
import sys
sys.modules["torch"] = None  # as if it were not installed
try:
    import pefslc.train
except ImportError as e:
    import pefslc
    assert isinstance(e, pefslc.CompileError)
    print(e)
from pefslc.console.cli import run
sys.exit(run([sys.argv[1], "--target", "c", "--plugin", sys.argv[2]]))
"""
    model = ROOT / "examples" / "cnn_bnfold_q2_3.onnx"
    ended = subprocess.run([sys.executable, "-c", code, model, plugin], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    expected = (
        "error[PEF1001]: pefslc.train needs torch and Brevitas: torch is missing\n"
        '  help: in a checkout of pefslc: pip install ".[train]"\n'
    )
    assert ended.stdout == expected
    assert "pefslc.train needs torch and Brevitas" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_passes_are_observed_with_their_graphs(model: Path) -> None:
    seen: list[tuple[str, Level]] = []
    pefslc.compile(model, target="fake", observe=lambda record, graph: seen.append((record.name, graph.level)))
    assert seen[0] == ("import", Level.QUANTIZED)
    assert seen[-1] == ("check-accumulators", Level.INTEGER)


def test_a_filled_input_is_what_verification_refers_to(open_model: Path, inputs: Path) -> None:
    program = pefslc.compile(open_model, target="fake", fmt="Q2.3")
    assert program.verify(inputs).equal


def test_a_wide_weight_is_the_only_contradiction(tmp_path: Path) -> None:
    onnx.save(quantized_mlp(weight_bits=7), str(tmp_path / "m.onnx"))
    with pytest.raises(pefslc.CompileError) as raised:
        pefslc.compile(tmp_path / "m.onnx", target="fake", fmt="Q2.3")
    (problem,) = raised.value.problems
    assert "this weight quantizer is Q4.3: 7 bits, step 0.125, range [-8, 7.875]" in problem.message


def output(scale: Fraction, offset: Fraction = Fraction(0), high: int = 1000) -> GraphOutput:
    element = CodeRange(low=-high, high=high, scale=Scale.power_of_two(0))
    value = Value("v", TensorType((1, 2), element), Origin("", "output"))
    return GraphOutput("y", value, OutputMap((scale,), (offset,)))


def differing(out: GraphOutput, expected: np.ndarray, codes: list[list[int]]) -> int:
    return compare_values(out, expected, np.array(codes), "a and b").differing


def test_dyadic_values_are_compared_exactly() -> None:
    out = output(Fraction(1, 8), Fraction(1, 4))
    assert differing(out, np.array([[0.25, -1.0]]), [[0, -10]]) == 0
    assert differing(out, np.array([[0.25, np.nextafter(-1.0, 0)]]), [[0, -10]]) == 1
    assert differing(out, np.array([[0.25, np.nan]]), [[0, -10]]) == 1


def test_other_values_are_compared_within_their_noise() -> None:
    third = output(Fraction(1, 3))
    assert differing(third, np.array([[1 / 3, 1 / 3 + 1e-12]]), [[1, 1]]) == 0
    assert differing(third, np.array([[1 / 3, 1 / 3 + 1e-6]]), [[1, 1]]) == 1
    assert differing(third, np.array([[1 / 3, 2 / 3]]), [[1, 1]]) == 1


def test_a_scale_of_many_digits_is_not_exact_in_float64() -> None:
    out = output(Fraction(7091678867505, 1 << 55), Fraction(12466283, 1 << 28), high=100_000)
    values = np.array([[100 * float(out.map.scale[0]) + float(out.map.offset[0]) + 3e-16] * 2])  # type: ignore[union-attr]
    assert differing(out, values, [[100, 100]]) == 0
    assert differing(out, values, [[100, 101]]) == 1


def test_a_float32_reference_has_float32_noise() -> None:
    out = output(Fraction(1, 1 << 20), high=1 << 28)
    codes = [[(1 << 27) + 1, 5]]
    values = (np.array(codes) / (1 << 20)).astype(np.float32)
    assert float(values[0, 0]) != codes[0][0] / (1 << 20)
    assert differing(out, values, codes) == 0
    assert differing(out, values, [[(1 << 27) + 1, 6]]) == 1


def test_the_first_difference_counts_rows_from_the_start() -> None:
    found = compare_codes("y", np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 9]]), "a and b", first_row=16)
    assert str(found) == "output 'y': 1 of 4 differ: a and b; first at [17, 1]: code 9 instead of 4, off by 5"


def test_the_stages_of_a_target_come_after_the_passes(model: Path) -> None:
    seen: list[str] = []
    pefslc.compile(
        model,
        target="fake",
        observe=lambda record, _: seen.append(record.name),
        observe_target=lambda stage: seen.append(f"{stage.name} {stage.changed}"),
    )
    assert seen[0] == "import"
    assert seen[-2:] == ["select True", "schedule False"]


@pytest.mark.parametrize("name", pefslc.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(pefslc, name) is not None
    assert name in dir(pefslc)


def test_every_public_name_has_a_home_and_is_declared_once() -> None:
    homes = [name for names in pefslc._HOMES.values() for name in names]
    assert sorted([*homes, "__version__"]) == sorted(pefslc.__all__)


def test_each_public_name_is_told_to_type_checkers_from_its_home() -> None:
    """`if TYPE_CHECKING` and the table say the same."""
    (guarded,) = [n for n in ast.parse(Path(pefslc.__file__).read_text()).body if isinstance(n, ast.If)]
    told = {n.module: tuple(a.name for a in n.names) for n in guarded.body if isinstance(n, ast.ImportFrom)}
    assert told == pefslc._HOMES
