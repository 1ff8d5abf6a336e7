"""`pefslc fewshot train`, `quantize`, `evaluate`, `sweep`: from pictures to tables, and what goes wrong on the way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch, of the extra train, is not installed")
pytest.importorskip("brevitas", reason="brevitas, of the extra train, is not installed")
pytest.importorskip("PIL", reason="pillow, of the extra fewshot, is not installed")

from fewshot.picture_folder import write_pictures

import pefslc
from pefslc.console.cli import run
from pefslc.fewshot.data.load import load_data
from pefslc.fewshot.episodes.accuracy import evaluate_episodes
from pefslc.fewshot.episodes.centre import IntegerCentre
from pefslc.fewshot.episodes.draw import Episodes
from pefslc.fewshot.episodes.integer_ncm import IntegerNcm
from pefslc.fewshot.episodes.intervals import mean_accuracy
from pefslc.fewshot.head.spec import HeadKind
from pefslc.fewshot.networks import Recipe, read_trained
from pefslc.fewshot.networks.saved_training import network_digest
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.description import load_description

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

FEW = ("--ways", "3", "--shots", "2", "--queries", "3", "--episodes", "40", "--centre-pictures", "0")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a trained and a quantized backbone."""
    folder = tmp_path_factory.mktemp("commands")
    write_pictures(folder / "pictures")
    small = ("--data", folder / "pictures", "--width", 4, "--epochs", 1, "--batch", 8, *FEW)
    assert call("train", "-o", folder / "net.pt", *small) == 0
    how = ("--fmt", "auto:4", "--distill", "--prune", "0.5:2", "--tuning-epochs", 1)
    assert call("quantize", folder / "net.pt", "-o", folder / "net.onnx", *how) == 0
    return folder


def call(*arguments: object) -> int:
    return run(["fewshot", *map(str, arguments)])


def test_a_training_can_be_told_from_its_file(work: Path) -> None:
    content = read_trained(work / "net.pt")
    assert content.trained.description.maps == (4, 10, 20)
    assert json.loads(content.origin["data"])["source"] == str(work / "pictures")
    assert json.loads(content.origin["recipe"])["batch"] == 8
    assert not (work / "net.pt.checkpoint").exists()


def test_the_card_says_what_the_network_is(work: Path) -> None:
    card = json.loads((work / "net.json").read_bytes())
    assert card["cell"] == {"method": "qat", "fmt": "auto:4", "distill": True, "prune": [0.5, 2], "seed": 0}
    assert card["description"]["inner"] == [2, 4, 10]
    assert card["data_sha256"] == load_data(work / "pictures", 16).digest()


def test_what_is_evaluated_are_the_integers_of_the_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", work / "net.onnx", "--float", work / "net.pt", *FEW) == 0
    out = capsys.readouterr().out
    data, program = load_data(work / "pictures", 16), pefslc.compile(work / "net.onnx", target="c")
    description = read_trained(work / "net.pt").trained.description
    novel, base = (
        program.run(description.normalized(part.images).numpy(), codes=True)["output"]
        for part in (data.novel, data.base)
    )
    head = IntegerNcm(HeadKind.COSINE, IntegerCentre.mean(base))
    wanted = evaluate_episodes(novel, Episodes(3, 2, 3, 0).draw(data.novel.labels, 0, 40), head)
    (line,) = (line for line in out.splitlines() if line.startswith("net.onnx  "))
    assert str(mean_accuracy(wanted)) in line
    assert head.name in line
    assert "points" in line
    assert "paired with net.pt" in out
    assert "novel classes" in out


def test_a_network_without_a_card_needs_its_normalization(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.onnx"
    alone.write_bytes((work / "net.onnx").read_bytes())
    assert call("evaluate", alone, *FEW) == 2
    assert "has no card beside it: give --mean and --std" in capsys.readouterr().err
    assert call("evaluate", alone, "--mean", "x", "--std", "0.25", *FEW) == 1
    assert "mean is 'x'" in capsys.readouterr().err
    data = ("--data", work / "pictures")
    assert call("evaluate", alone, "--mean", "0.5", "--std", "0.25", *data, *FEW) == 0
    (tmp_path / "alone.json").write_bytes((work / "net.json").read_bytes())
    assert call("evaluate", alone, *FEW) == 0
    assert call("evaluate", alone, "--mean", "0.4", *FEW) == 1
    assert "--mean 0.4, and the card of" in capsys.readouterr().err
    alone.write_bytes(alone.read_bytes() + b"\0")
    assert call("evaluate", alone, *FEW) == 1


def test_a_stopped_training_is_gone_on_with_only_when_asked(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pefslc.fewshot.networks import training

    options = ("--data", work / "pictures", "--width", 4, "--epochs", 2, "--batch", 8, *FEW)
    whole = tmp_path / "whole.pt"
    assert call("train", "-o", whole, *options) == 0
    write = training.write_training

    def stop(path: Path, saved: training.SavedTraining) -> None:
        write(path, saved)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_training", stop)
    path = tmp_path / "stopped.pt"
    assert call("train", "-o", path, *options) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert not path.exists()
    monkeypatch.undo()
    assert call("train", "-o", path, *options) == 1
    assert "is of a training that was stopped" in capsys.readouterr().err
    assert call("train", "-o", path, "--resume", *options, "--rate", "0.5") == 1
    assert "the checkpoint of another training" in capsys.readouterr().err
    assert call("train", "-o", path, "--resume", *options) == 0
    first, second = read_trained(whole).trained, read_trained(path).trained
    assert [epoch.loss for epoch in first.history] == [epoch.loss for epoch in second.history]
    assert network_digest(first.network, first.classifier) == network_digest(second.network, second.classifier)


def test_a_stopped_quantization_is_gone_on_with_to_the_same_file(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in its second training, the first, of what was pruned, is not done again."""
    from pefslc.fewshot.networks import training

    options = ("--fmt", "auto:4", "--prune", "0.5:2", "--tuning-epochs", 2, "--distill", "-q")
    assert call("quantize", work / "net.pt", "-o", tmp_path / "whole.onnx", *options) == 0
    write, epochs = training.write_training, list[str]()

    def stop(path: Path, saved: training.SavedTraining) -> None:
        write(path, saved)
        epochs.append(path.name)
        if len(epochs) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_training", stop)
    path = tmp_path / "x.onnx"
    assert call("quantize", work / "net.pt", "-o", path, *options) == 130
    assert epochs == ["x.onnx.pruning.checkpoint", "x.onnx.pruning.checkpoint", "x.onnx.checkpoint"]
    assert "--resume goes on" in capsys.readouterr().err
    assert not path.exists()
    assert call("quantize", work / "net.pt", "-o", path, *options) == 1
    assert "is of a training that was stopped" in capsys.readouterr().err
    assert call("quantize", work / "net.pt", "-o", path, "--resume", *options) == 0
    assert epochs[3:] == ["x.onnx.checkpoint"]
    assert path.read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["whole.json", "whole.onnx", "x.json", "x.onnx"]


def test_a_checkpoint_that_a_command_does_not_read_stays(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pefslc.fewshot.networks import training

    write = training.write_training

    def stop(path: Path, saved: training.SavedTraining) -> None:
        write(path, saved)
        raise KeyboardInterrupt

    path, kept = tmp_path / "x.onnx", tmp_path / "x.onnx.checkpoint"
    options = ("--fmt", "auto:4", "--tuning-epochs", 2, "-q")
    with monkeypatch.context() as patched:
        patched.setattr(training, "write_training", stop)
        assert call("quantize", work / "net.pt", "-o", path, *options) == 130
    content = kept.read_bytes()
    for resume in ((), ("--resume",)):
        assert call("quantize", work / "net.pt", "-o", path, "--method", "ptq", "--fmt", "auto:4", "-q", *resume) == 0
        assert kept.read_bytes() == content
    assert call("quantize", work / "net.pt", "-o", path, *options, "--resume") == 0
    assert not kept.exists()


def test_budgets_are_searched_and_the_card_tells_how(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mixed.onnx"
    how = ("--fmt", "auto:5", "--budget", "bits=3.5", "--budget", "activations=4", "--tuning-epochs", 1)
    assert call("quantize", work / "net.pt", "-o", path, *how) == 0
    out = capsys.readouterr().out
    card = json.loads(path.with_suffix(".json").read_bytes())
    found = card["search"]["found"]
    assert found["costs"][0] <= 3.5
    assert found["costs"][1] <= 4
    assert f"{len(card['search']['trials'])} measurements" in out
    lines = [line.split() for line in out.splitlines()]
    for number, step in enumerate(card["search"]["steps"], 1):
        assert any(line[:1] == [str(number)] and step["tensor"].split() == line[1:-5] for line in lines)
    assert "QAT auto:5 within bits=3.5, activations=4: wrote" in out
    program = pefslc.compile(path, target="c")
    widths = {op.weight.name: op.weight for op in program.lowered.reference.ops if hasattr(op, "weight")}
    bits = [value.type.element.fixed_point.bits for value in widths.values()]
    weights = {name: n for name, n in found["bits"].items() if name.endswith(" weights")}
    assert sorted(bits) == sorted(weights.values())


def test_a_budget_of_sums_that_tuning_breaks_is_said(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mixed.onnx"
    how = ("--fmt", "auto:3", "--budget", "accumulator=12", "-q")
    tuned = ("--tuning-epochs", 2, "--tuning-rate", "0.3")
    assert call("quantize", work / "net.pt", "-o", path, *tuned, *how) == 0
    assert "misses accumulator=12: a sum takes" in capsys.readouterr().err


def test_the_accuracy_on_val_is_told_by_epochs(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data", work / "pictures", "--width", 4, "--epochs", 3, "--batch", 8, *FEW)
    assert call("train", "-o", tmp_path / "a.pt", *options, "--validate-every", 2) == 0
    out = capsys.readouterr().out
    first = read_trained(tmp_path / "a.pt").trained
    assert [math.isnan(epoch.figure) for epoch in first.history] == [True, False, False]
    assert f"{100 * first.history[-1].figure:.2f} %" in out
    assert "3-way 2-shot, 40 episodes of seed 0, float NCM, PEFSL's order, centre: mean of the val pictures" in out
    assert call("train", "-o", tmp_path / "b.pt", *options) == 0
    second = read_trained(tmp_path / "b.pt").trained
    assert network_digest(first.network) == network_digest(second.network)
    assert all(math.isnan(epoch.figure) for epoch in second.history)


def test_times_need_a_compiler_before_anything_is_trained(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    command = ("sweep", "-o", tmp_path / "s", "--fmt", "auto:3", "--no-plot", "--data", work / "pictures")
    assert call(*command, "--times") == 1
    assert "there is no C compiler" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_sweep_of_the_command_is_complete(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["txt", "md", "csv", "json"]
    plot: tuple[str, ...] = ("--no-plot",)
    try:
        import matplotlib  # noqa: F401

        names, plot = [*names, "png", "svg"], ()
    except ImportError:
        pass
    options = ("--data", work / "pictures", "--width", 4, "--epochs", 1, "--tuning-epochs", 1, "--batch", 8, *FEW)
    formats = ("--fmt", "auto:3,Q12.-4", "--methods", "float,ptq")
    command = ("sweep", "-o", tmp_path / "s", *formats, "--jobs", 1)
    assert call(*command, *plot, *options) == 0
    first = capsys.readouterr()
    assert "PTQ Q12.-4: dead" in first.out
    assert "8 of 8" in first.err
    assert all((tmp_path / "s" / f"sweep.{name}").stat().st_size for name in names)
    assert call(*command, *plot, *options) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert " of 6" not in second.err, "nothing is computed again"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("train", "-o", "net.onnx"), 1, "exists and is no trained backbone"),
        (("train", "-o", "x.pt", "--data", "nowhere"), 2, "no such folder"),
        (("train", "-o", "x.pt", "--mean", "1,2"), 2, "neither one number nor three"),
        (("train", "-o", "x.pt", "--width", "0"), 1, "width"),
        (("train", "-o", "x.pt", "--epochs", "-1"), 1, "epochs is '-1'"),
        (("train", "-o", "x.pt", "--shots", "a"), 2, "'a' is not numbers of shots"),
        (("quantize", "net.onnx", "-o", "x.onnx", "--fmt", "Q2.3"), 1, "no trained backbone"),
        (("quantize", "net.pt", "-o", "x.bin", "--fmt", "Q2.3"), 2, "does not end in .onnx"),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "Q2"), 1, "not a format"),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "Q2.3", "--prune", "a"), 2, "is not SHARE:ARRAY"),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "Q2.3", "--prune", "2:2"), 1, "share 2"),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "Q2.3", "--method", "ptq", "--distill"), 1, "distilled"),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "Q2.3", "--size", "17"), 1, "other pictures"),
        (
            ("quantize", "net.pt", "-o", "x.onnx", "--fmt", "Q2.3", "--budget", "bits=3"),
            1,
            "--budget shares out the bits of auto:, and --fmt is Q2.3",
        ),
        (
            ("quantize", "net.pt", "-o", "x.onnx", "--fmt", "mixed:3", "--budget", "bits=3"),
            1,
            "--budget shares out the bits of auto:, and --fmt is mixed:3",
        ),
        (
            ("quantize", "net.pt", "-o", "x.onnx", "--fmt", "auto:3", "--budget", "accumulator=nix"),
            2,
            "unknown architecture 'nix'",
        ),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "auto:4", "--budget", "bits=1"), 1, "at least 2 bits"),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "auto:4", "--budget", "bytes=9"), 1, "misses bytes=9"),
        (("quantize", "net.pt", "-o", "x.onnx", "--fmt", "auto:4", "--budget", "cycles=9"), 1, "save no cycles"),
        (("evaluate", "nowhere.onnx"), 2, "no such file"),
        (("evaluate", "net.pt", "--ways", "9"), 1, "9"),
        (("evaluate", "net.pt", "--shots", "5,1"), 1, "the shots are"),
        (("sweep", "-o", "s", "--methods", "a"), 2, "'a' is not of float, ptq, qat"),
        (("sweep", "-o", "s", "--arch", "nix"), 2, "unknown architecture 'nix'"),
        (("sweep", "-o", "s", "--jobs", "2", "--scheduler", "tcp://x"), 2, "give one"),
    ],
)
def test_mistakes_are_said(
    arguments: tuple[str, ...], status: int, message: str, work: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(work)
    before = sorted(work.rglob("*"))
    assert call(*arguments) == status
    error = capsys.readouterr().err
    assert message in error
    assert "help: " in error
    assert sorted(work.rglob("*")) == before


def test_the_default_recipe_is_that_of_the_library() -> None:
    from pefslc.console.fewshot_training import describe, recipe_of
    from pefslc.fewshot.networks import Description

    assert recipe_of({}, 0) == Recipe()
    assert describe({}, 32) == Description()


def test_a_backbone_with_a_card_is_built_without_a_word_more(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Normalization and centre are those of the training: the same system as from Python."""
    assert call("build", work / "net.onnx", "-o", tmp_path / "a") == 0
    assert "centre: base mean (4 fraction bits)" in capsys.readouterr().out
    data, description = load_data(work / "pictures", 16), read_trained(work / "net.pt").trained.description
    build_system(
        work / "net.onnx", tmp_path / "b", mean=description.mean, std=description.std, centre_pictures=data.base.images
    )
    one, other = (load_description(tmp_path / name) for name in "ab")
    assert one.to_bytes() == other.to_bytes()
    assert any(one.spec.centre)
    assert call("build", work / "net.onnx", "-o", tmp_path / "a", "--mean", "0.50", "--std", "0.25,0.25,0.25") == 0
    assert load_description(tmp_path / "a").to_bytes() == other.to_bytes()
    assert call("build", work / "net.onnx", "-o", tmp_path / "a", "--centre", "none") == 0
    assert not any(load_description(tmp_path / "a").spec.centre)
    assert call("build", work / "net.onnx", "-o", tmp_path / "a", "--kind", "euclid") == 0


def test_a_card_that_contradicts_is_said(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, card = tmp_path / "net.onnx", json.loads((work / "net.json").read_bytes())
    path.write_bytes((work / "net.onnx").read_bytes())

    def refused(*options: object, status: int = 1, **changes: object) -> str:
        path.with_suffix(".json").write_text(json.dumps({**card, **changes}))
        assert call("build", path, "-o", tmp_path / "x", *options) == status
        assert not (tmp_path / "x").exists()
        return capsys.readouterr().err

    error = refused("--mean", "0.4")
    assert "--mean 0.4, and the card of" in error
    assert "says 0.5,0.5,0.5\n  help: leave out --mean" in error
    error = refused(data_sha256="0" * 64)
    assert "holds other pictures than" in error
    assert "help: --centre with a folder of pictures of the base classes, or --centre none" in error
    error = refused(status=2, data={**card["data"], "source": str(tmp_path / "moved")})
    assert "was trained on cannot be had: " in error
    assert "is the card of another network" in refused(network_sha256="0" * 64)
    wrong: tuple[dict[str, object], ...] = ({"description": None}, {"data": {**card["data"], "colours": 3}})
    for changes in wrong:
        assert "PEF1166" in refused(**changes)
        assert call("evaluate", path, *FEW) == 1
        assert "is a damaged card, or one of a newer pefslc: " in capsys.readouterr().err
    for options in (("--centre", "none"), ("--kind", "euclid")):
        assert "there is none" in refused("--centre-name", "mugs", *options, status=2)
