"""Cells and their tasks: what decides a result is in its key, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fewshot.sweep_support import SETTING

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.sweep.cells import Cell, Kind, Method, Prune, Task, cell_task, cells_of
from pefslc.fewshot.sweep.setting import DataSource, Measurement, Setting

QAT = Cell(method=Method.QAT, fmt="auto:3", distill=True, prune=Prune(0.6, 12), seed=1)


def tasks(task: Task) -> Iterator[Task]:
    yield task
    for need in task.needs:
        yield from tasks(need)


def keys(setting: Setting, cell: Cell) -> dict[Kind, str]:
    return {task.kind: task.key for task in tasks(cell_task(setting, cell))}


def changed(setting: Setting, cell: Cell) -> set[Kind]:
    """The kinds of tasks that are others than those of QAT in SETTING."""
    before = keys(SETTING, QAT)
    return {kind for kind, key in keys(setting, cell).items() if key != before[kind]}


EVERYTHING = {Kind.TRAINING, Kind.PRUNING, Kind.FORMATS, Kind.QUANTIZING, Kind.CELL}


@pytest.mark.parametrize(
    ("field", "value", "kinds"),
    [
        ("data_digest", "6" * 64, EVERYTHING),
        ("description", '{"maps": [4, 6, 9]}', EVERYTHING),
        ("recipe", '{"epochs": 15, "seed": 0}', EVERYTHING),
        ("versions", (("pefslc", "1"),), EVERYTHING),
        ("tuning", '{"epochs": 5, "seed": 0}', {Kind.PRUNING, Kind.FORMATS, Kind.QUANTIZING, Kind.CELL}),
        ("measurement", Measurement(episodes=9), {Kind.CELL}),
        ("measurement", replace(SETTING.measurement, seed=1), {Kind.CELL}),
        ("boards", (), {Kind.CELL}),
        ("data", DataSource(source="/elsewhere", size=16), set()),
    ],
)
def test_a_setting_changes_the_keys_of_what_depends_on_it(field: str, value: object, kinds: set[Kind]) -> None:
    assert changed(replace(SETTING, **{field: value}), QAT) == kinds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "kinds"),
    [
        ("seed", 2, EVERYTHING),
        ("prune", Prune(0.5, 12), {Kind.PRUNING, Kind.FORMATS, Kind.QUANTIZING, Kind.CELL}),
        ("distill", False, {Kind.PRUNING, Kind.FORMATS, Kind.QUANTIZING, Kind.CELL}),
        ("fmt", "auto:4", {Kind.FORMATS, Kind.QUANTIZING, Kind.CELL}),
        ("method", Method.PTQ, {Kind.QUANTIZING, Kind.CELL}),
    ],
)
def test_a_cell_changes_the_keys_of_what_depends_on_it(field: str, value: object, kinds: set[Kind]) -> None:
    assert changed(SETTING, replace(QAT, **{field: value})) == kinds  # type: ignore[arg-type]


def test_ptq_and_qat_share_their_formats() -> None:
    ptq, qat = (keys(SETTING, replace(QAT, method=method)) for method in (Method.PTQ, Method.QAT))
    assert ptq[Kind.FORMATS] == qat[Kind.FORMATS]


def test_what_is_not_trained_on_does_not_depend_on_how_it_would_be() -> None:
    ptq = Cell(method=Method.PTQ, fmt="Q2.3")
    other = replace(SETTING, tuning='{"epochs": 5, "seed": 0}')
    assert cell_task(SETTING, ptq).key == cell_task(other, ptq).key


def test_needs_are_the_start_and_the_teacher() -> None:
    def kinds(cell: Cell) -> list[Kind]:
        (network,) = cell_task(SETTING, cell).needs
        return [network.kind, *(need.kind for need in network.needs)]

    pruned = Prune(0.6, 12)
    assert kinds(Cell(method=Method.FLOAT)) == [Kind.TRAINING]
    assert kinds(Cell(method=Method.FLOAT, prune=pruned)) == [Kind.PRUNING, Kind.TRAINING]
    assert kinds(Cell(method=Method.PTQ, fmt="Q2.3")) == [Kind.QUANTIZING, Kind.TRAINING, Kind.FORMATS]
    assert kinds(Cell(method=Method.QAT, fmt="Q2.3", distill=True)) == [Kind.QUANTIZING, Kind.TRAINING, Kind.FORMATS]
    assert kinds(Cell(method=Method.QAT, fmt="Q2.3", prune=pruned)) == [Kind.QUANTIZING, Kind.PRUNING, Kind.FORMATS]
    assert kinds(QAT) == [Kind.QUANTIZING, Kind.PRUNING, Kind.FORMATS, Kind.TRAINING]


def test_all_combinations_that_make_sense_come_once() -> None:
    found = cells_of(list(Method), ["Q2.3", "auto:3"], [0, 1], [False, True], [None, Prune(0.6, 12)])
    labels = [cell.label for cell in found if cell.seed == 0]
    assert sorted(labels) == sorted(
        [
            "float", "PTQ Q2.3", "PTQ auto:3", "QAT Q2.3", "QAT Q2.3 distilled", "QAT auto:3", "QAT auto:3 distilled",
            "float pruned 0.6:12", "float pruned 0.6:12 distilled",
            *(
                f"{method} {fmt} pruned 0.6:12{end}"
                for method in ("PTQ", "QAT") for fmt in ("Q2.3", "auto:3") for end in ("", " distilled")
            ),
        ]
    )  # fmt: skip
    assert len(found) == 2 * len(labels) == len(set(found))


@pytest.mark.parametrize("cell", [QAT, Cell(method=Method.FLOAT), Cell(method=Method.PTQ, fmt="Q2.3")])
def test_a_cell_comes_back_from_json(cell: Cell) -> None:
    assert Cell.from_json(cell.to_json()) == cell


def test_one_format_has_one_spelling() -> None:
    spelt = Cell(method=Method.PTQ, fmt=" Q02.3")
    assert spelt == Cell(method=Method.PTQ, fmt="Q2.3")
    assert spelt.bits == 5
    assert QAT.bits == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": Method.FLOAT, "fmt": "Q2.3"}, "float with the format Q2.3"),
        ({"method": Method.QAT}, "qat without a format"),
        ({"method": Method.PTQ, "fmt": "Q2.3", "distill": True}, "ptq is distilled without a training"),
        ({"method": Method.PTQ, "fmt": "Q2"}, "not a format"),
    ],
)
def test_cells_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        Cell(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "base"}, "no split to measure on"),
        ({"shots": ()}, "the shots are"),
        ({"shots": (5, 1)}, "the shots are"),
        ({"shots": (0, 1)}, "shots is 0"),
        ({"ways": 1}, "ways is 1"),
        ({"episodes": 1}, "1 episodes"),
        ({"centre_pictures": -1}, "-1 pictures"),
    ],
)
def test_measurements_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        Measurement(**fields)  # type: ignore[arg-type]
