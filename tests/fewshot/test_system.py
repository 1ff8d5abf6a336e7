"""Built systems: one answer from the C, the simulated TCU, the file and fractions; what is refused; what is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fewshot.head_oracle import Oracle
from fewshot.system_support import ARCH, FEATURES, MEAN, STD, codes_by_definition, frames, tiny_backbone

import pefslc
from builders import ModelBuilder, normal
from pefslc.artifacts.sidecar import load_sidecar
from pefslc.artifacts.signed_json import SignedJson
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.centre import IntegerCentre
from pefslc.fewshot.head.spec import centre_of
from pefslc.fewshot.system.backbone import Backbone
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.classes import class_called, enrol_class
from pefslc.fewshot.system.description import load_description
from pefslc.fewshot.system.engines import LIBRARIES
from pefslc.fewshot.system.system import FewShotSystem


def code_of(caught: pytest.ExceptionInfo[CompileError]) -> Code:
    return caught.value.problems[0].code


@pytest.mark.parametrize("engine", ["c", "tensil", "float"])
def test_every_engine_computes_the_codes_of_the_definition(build: Path, engine: str) -> None:
    """Its values are dyadic and few: float64, too, is exact."""
    shown = frames(12, 1)
    expected = [codes_by_definition(frame) for frame in shown]
    assert FewShotSystem.open(build, engine).codes(shown).tolist() == list(map(list, expected))
    assert len(set(expected)) == 12


def test_the_centre_is_the_mean_of_the_codes_of_its_pictures(build: Path) -> None:
    codes = np.array([codes_by_definition(frame) for frame in frames(9, 0)])
    spec = load_description(build).spec
    assert spec.centre == centre_of(codes, 4)
    assert (spec.low, spec.high) == (0, 31 * 16)


@pytest.mark.parametrize("engine", ["c", "tensil"])
def test_decisions_are_those_of_fractions(build: Path, engine: str) -> None:
    system = FewShotSystem.open(build, engine)
    oracle, state = Oracle(system.spec), system.new_state(1)
    shown = frames(9, 2)
    for i, name in enumerate(("mug", "cup", "pot")):
        class_id = enrol_class(state, name, system.codes(shown[i::3]))
        oracle.shots[class_id] = [codes_by_definition(frame) for frame in shown[i::3]]
    queries = frames(15, 3)
    rejected = 0
    for frame, codes in zip(queries, system.codes(queries), strict=True):
        exact = codes_by_definition(frame)
        for threshold in (None, Fraction(1, 2), Fraction(95, 100)):
            decision = state.classifier.classify(codes, threshold=threshold, with_scores=True)
            assert decision.class_id == oracle.classify(exact, threshold)
            assert decision.scores == oracle.scores(exact)
            rejected += decision.class_id is None
    assert 0 < rejected < 30


def test_pictures_of_any_size_are_fitted(build: Path) -> None:
    system = FewShotSystem.open(build)
    large = frames(3, 4, 21, 30)
    fitted = np.stack([system.fit(picture) for picture in large])
    assert (system.codes(large) == system.codes(fitted)).all()
    assert (system.codes([large[0], fitted[1]]) == system.codes(fitted[:2])).all()
    assert system.codes(large[:0]).shape == (0, FEATURES)
    with pytest.raises(CompileError, match=r"give one picture as picture\[None\]|of shape \[21, 30, 3\]"):
        system.codes(large[0])
    with pytest.raises(CompileError, match="no bytes"):
        system.codes(large.astype(np.float64))  # type: ignore[arg-type]


def test_the_same_build_has_the_same_bytes(build: Path, tmp_path: Path) -> None:
    build_system(
        tiny_backbone(tmp_path), tmp_path / "again", mean=MEAN, std=STD, centre_pictures=frames(9, 0), arch=ARCH
    )
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (build / path.name).read_bytes(), path.name


def test_a_second_build_replaces_the_first(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder)
    description = build_system(tiny_backbone(tmp_path), folder, mean=0, std=1, kind="euclid", max_shots=9)
    assert description.ncm == "integer NCM, Euclidean, centre: none"
    assert FewShotSystem.open(folder).spec.max_shots == 9
    other = tiny_backbone(tmp_path, "other.onnx", seed=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(CompileError, match=r"holds another few-shot system: 'tiny.fewshot.json'"):
        build_system(other, folder, mean=0, std=1)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert FewShotSystem.open(folder).spec.max_shots == 9
    shutil.copy(folder / "tiny.fewshot.json", folder / "other.fewshot.json")
    with pytest.raises(CompileError, match=r"holds several systems: 'other.fewshot.json', 'tiny.fewshot.json'"):
        FewShotSystem.open(folder)


def test_a_foreign_file_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "tiny_head.c").write_text("mine")
    with pytest.raises(CompileError, match="is not what a compile wrote"):
        build_system(tiny_backbone(tmp_path), folder, mean=0, std=1)
    assert [path.name for path in folder.iterdir()] == ["tiny_head.c"]


def test_codes_of_another_normalization_are_not_mixed(build: Path, tmp_path: Path) -> None:
    """The same network with another mean is another system to a state."""
    build_system(tiny_backbone(tmp_path), tmp_path / "other", mean=0, std=STD, centre_pictures=frames(9, 0))
    system, other = FewShotSystem.open(build), FewShotSystem.open(tmp_path / "other")
    path = tmp_path / "x.state"
    with system.editing(path, new=system.new_state()) as state:
        enrol_class(state, "mug", system.codes(frames(1, 1)))
    with pytest.raises(CompileError) as caught:
        other.load_state(path)
    assert code_of(caught) is Code.STATE_FOREIGN


@pytest.mark.parametrize("name", ["tiny.c", "tiny.onnx", "tiny.tdata", "tiny.tensil.json", "tiny_head.py"])
def test_every_file_is_vouched_for(build: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-2] + b"  ")
    with pytest.raises(CompileError, match=f"'{name}' is not the file that 'tiny.fewshot.json' describes"):
        FewShotSystem.open(folder)
    (folder / name).unlink()
    with pytest.raises(CompileError, match=f"'{name}' is missing"):
        FewShotSystem.open(folder)


def test_a_changed_description_is_not_read(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder)
    path = folder / "tiny.fewshot.json"
    content = json.loads(path.read_bytes())
    for part, key, value in (("head", "fraction_bits", 3), ("pictures", "std", ["1", "1", "1"])):
        changed = {**content, part: {**content[part], key: value}}
        path.write_text(json.dumps(changed))
        with pytest.raises(CompileError, match="was changed after the build"):
            FewShotSystem.open(folder)
    for text in ("", "[]", "{}", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(CompileError) as caught:
            FewShotSystem.open(folder)
        assert code_of(caught) is Code.NOT_A_SYSTEM
    path.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(CompileError, match="has format '99', this pefslc reads 1"):
        FewShotSystem.open(folder)


def test_a_build_that_was_ended_in_the_middle_is_told_from_a_changed_file(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder)
    staged = folder / ".pefslc-staged-x"
    (staged / "new").mkdir(parents=True)
    (staged / "new" / "tiny.fewshot.json").write_text("to come")
    (staged / "journal.json").write_text(json.dumps({"files": {"tiny.c": "", "tiny.fewshot.json": ""}, "replaced": []}))
    FewShotSystem.open(folder)  # nothing was moved yet
    (folder / "tiny.c").write_text("new")
    with pytest.raises(CompileError, match="are half replaced: a build writes them, or was ended while it did"):
        FewShotSystem.open(folder)


def test_a_folder_from_before_there_were_batches_is_read(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder)
    content = json.loads((folder / "tiny.fewshot.json").read_bytes())
    del content["batch"], content["description_sha256"]
    unsigned = SignedJson("description_sha256", content["format"], "build", "")
    (folder / "tiny.fewshot.json").write_bytes(unsigned.to_bytes(content))
    assert load_description(folder) == load_description(build)


def test_a_description_survives_its_file(build: Path) -> None:
    description = load_description(build)
    assert (build / description.file_name).read_bytes() == description.to_bytes()
    assert description.engines == ("c", "tensil", "float")
    assert description.batch == 1
    assert description.scale == Fraction(1, 128)
    assert description.mean == (Fraction(1, 2), Fraction(9, 20), Fraction(2, 5))


# --- the library --------------------------------------------------------------------------------------------------


def no_compiler(*_: object, **__: object) -> None:
    raise AssertionError("compiled again")


def test_the_second_open_compiles_nothing(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder, ignore=shutil.ignore_patterns(LIBRARIES))
    expected = FewShotSystem.open(folder).codes(frames(3, 1))
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", no_compiler)
        assert (FewShotSystem.open(folder).codes(frames(3, 1)) == expected).all()
        patched.setattr("pefslc.targets.c.runner.COMPILER_FLAGS", ("-std=c99", "-O1", "-fPIC", "-shared"))
        with pytest.raises(AssertionError, match="compiled again"):
            FewShotSystem.open(folder)


def test_a_damaged_library_is_compiled_again(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder, ignore=shutil.ignore_patterns(LIBRARIES))
    expected = FewShotSystem.open(folder).codes(frames(3, 1))
    (library,) = (folder / LIBRARIES).iterdir()
    content = library.read_bytes()
    # A new file each time: to truncate one that this process has mapped would end it.
    library.unlink()
    library.write_bytes(content[: len(content) // 2])
    assert (FewShotSystem.open(folder).codes(frames(3, 1)) == expected).all()
    assert library.read_bytes() == content


def test_without_a_place_to_keep_it_the_library_still_runs(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(build, folder, ignore=shutil.ignore_patterns(LIBRARIES))
    (folder / LIBRARIES).write_text("in the way")
    assert FewShotSystem.open(folder).codes(frames(1, 1)).tolist() == [list(codes_by_definition(frames(1, 1)[0]))]


# --- what is refused ----------------------------------------------------------------------------------------------


def test_engines_that_are_not_there(tmp_path: Path) -> None:
    build_system(tiny_backbone(tmp_path), tmp_path / "build", mean=0, std=1)
    for engine, said in (("tensil", "not built for a Tensil board"), ("gpu", "there is no engine 'gpu'")):
        with pytest.raises(CompileError, match=said) as caught:
            FewShotSystem.open(tmp_path / "build", engine)
        assert code_of(caught) is Code.NO_ENGINE


def network(folder: Path, kind: str) -> Path:
    """A network that is no backbone, each for its own reason."""
    m = ModelBuilder()
    channels = 2 if kind == "channels" else 3
    x = m.quant(m.input([1, channels, 4, 4], "input"), 0.125, 4)
    conv = m.node("Conv", x, m.weight(normal((4, channels, 4, 4)), 0.25, 3))
    if kind == "scales":
        scale = [[[[0.25]]], [[[0.25]]], [[[0.25]]], [[[0.5]]]]
        conv = m.node("Conv", x, m.weight(normal((4, channels, 4, 4)), scale, 3))
    elif kind == "bias":
        conv = m.node("Conv", x, m.weight(normal((4, channels, 4, 4)), 0.25, 3), m.constant([0.1, 0.2, 0.3, 0.4]))
    elif kind == "zero point":
        conv = m.quant(conv, 0.25, 5, zero_point=3)
    elif kind == "dead":
        conv = m.quant(m.node("Clip", conv, m.constant(0.0), m.constant(0.0)), 0.25, 5)
    m.output(conv, [1, 4, 1, 1])
    if kind == "outputs":
        m.output(m.node("Relu", conv), [1, 4, 1, 1])
    return m.save(folder, "network.onnx")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("channels", r"its input is \[1, 2, 4, 4\], not \[N, 3, H, W\]"),
        ("scales", "its features have 2 scales"),
        ("bias", "code 0 of a feature is not the value 0"),
        ("outputs", "it has 1 input and 2 outputs, not one of each"),
        ("dead", "every feature of 'network' is 0, whatever the picture"),
    ],
)
def test_networks_that_are_no_backbones(tmp_path: Path, kind: str, said: str) -> None:
    with pytest.raises(CompileError, match=said) as caught:
        build_system(network(tmp_path, kind), tmp_path / "build", mean=0, std=1)
    assert code_of(caught) in (Code.SYSTEM_BACKBONE, Code.DEAD_NETWORK)
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_backbone_with_a_batch_takes_the_frames_of_an_enrolment_in_batches(tmp_path: Path, target: str) -> None:
    shown = np.random.default_rng(0).integers(-8, 8, (13, 3, 4, 4))
    found = []
    for batch in (1, 8):
        program = pefslc.compile(network(tmp_path, "none"), target=target, batch=batch)
        (tmp_path / str(batch)).mkdir()
        *_, sidecar = program.save(tmp_path / str(batch))
        read = load_sidecar(sidecar)
        found.append(Backbone.of(read).features(program.target.runner(tmp_path / str(batch), read), shown))
    assert found[0].shape == (13, 4)
    assert np.array_equal(*found)


def test_a_zero_point_of_the_features_is_taken_out(tmp_path: Path) -> None:
    """Sums of codes then are sums of values: code 0 is the value 0."""
    build_system(network(tmp_path, "zero point"), tmp_path / "build", mean=0, std=1)
    system = FewShotSystem.open(tmp_path / "build")
    assert (system.spec.low, system.spec.high) == (-16 - 3, 15 - 3)
    shown = frames(4, 5)
    assert (system.codes(shown) == FewShotSystem.open(tmp_path / "build", "float").codes(shown)).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "manhattan"}, "there is no head of kind 'manhattan'"),
        ({"centre": np.zeros((2, FEATURES)), "centre_pictures": frames(2, 1)}, "both a centre and pictures"),
        ({"centre_pictures": frames(2, 1), "kind": "euclid"}, "a centre for squared distances"),
        ({"centre": np.zeros((2, FEATURES))}, "are float64 of shape"),
        ({"centre": np.zeros((2, 5), dtype=int)}, "the centre has 5 numbers, the backbone 6 features"),
        ({"centre_pictures": []}, "features of the centre 'base mean' are int64 of shape"),
        ({"centre": IntegerCentre("mine", (9999,) * FEATURES)}, "it is no mean of codes"),
        ({"std": 0}, "std is '0'"),
        ({"max_shots": 0}, "max_shots = 0 is not in"),
        ({"arch": "pynq2"}, "unknown architecture 'pynq2'"),
    ],
)
def test_options_that_make_no_system(tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(CompileError, match=said):
        build_system(tiny_backbone(tmp_path), tmp_path / "build", **{"mean": 0, "std": 1, **options})  # type: ignore[arg-type]
    assert not (tmp_path / "build").exists()


def test_names_of_classes(build: Path) -> None:
    system = FewShotSystem.open(build)
    state = system.new_state(1)
    shots = system.codes(frames(2, 1))
    # The CRC-32 of both is 0x4DDB0C25.
    enrol_class(state, "plumless", shots)
    with pytest.raises(CompileError, match="stand for one class id") as caught:
        enrol_class(state, "buckeroo", shots)
    assert code_of(caught) is Code.HEAD_NAME
    for name in ("", "x" * 33, "a\nb"):
        with pytest.raises(CompileError):
            enrol_class(state, name, shots)
    assert state.classifier.classes == (class_called(state, "plumless"),)
    state.classifier.enrol(7, shots)  # as C does: an id without a name
    assert class_called(state, "7") == 7
    with pytest.raises(CompileError, match="there is no class '8'"):
        class_called(state, "8")
