"""Tuned recipes: held-out images choose among the candidates, the cell trains by the choice, and all hours count."""

import pytest
import torch
from test_run import place
from test_teachers import train as record

from bench.build.networks import trained
from bench.cell import Cell
from bench.jobs import train
from bench.jobs.tuned import tuned
from bench.manifest import read_manifest
from bench.manifest.labels import Names, name
from bench.plan.waves import waves
from bench.records import Epoch, MonitorPoint, Start, append, read
from bench.results.counterparts import hours_with_teacher
from bench.results.loading import load
from reports.frames import read_frames
from reports.header import header
from reports.tables.teachers import teachers
from reports.tables.timing import timing

HEAD = """
title: Tuned
baseline: Standard
dataset: digits
pipeline: plain
loader: device
images: 128
arch: cnn2c2f
threat: {{norm: linf, eps: 4/255}}
recipe: {{epochs: 2, batch_size: 32, lr: 0.05}}
evals: [Clean]
seed: {seed}
{top}
cells:
  - method: {method}
    {tune}
"""
TUNE = "tune: {recipe: {lr: [0.01, 0.05], weight_decay: [0, 0.1]}, images: 40, by: {PGD: {steps: 2}}}"


@pytest.fixture
def manifest(tmp_path):
    def read_one(tune: str = TUNE, method: str = "Standard", seed: object = 0, top: str = "", **options):
        path = tmp_path / "tuned.yaml"
        path.write_text(HEAD.format(tune=tune, method=method, seed=seed, top=top))
        return read_manifest(path, **options)

    return read_one


def judged(candidate: Cell, runs, standing: float, seconds: float = 90.0) -> None:
    """Record a candidate's training and the accuracy that decides; before the last epoch, another one is higher."""
    record(candidate, runs)
    for epoch, value in ((0, 1.0), (1, standing)):
        point = MonitorPoint(
            arm=candidate.id,
            epoch=epoch,
            eval=candidate.monitor.evals[0].id,
            images=40,
            right=1,
            standing=value,
            seconds=seconds * epoch,
        )
        append(runs / candidate.id / "train.jsonl", point)


def test_a_candidate_is_the_cell_with_other_values_on_fewer_images(manifest):
    (cell,) = manifest().cells
    (plain,) = manifest("seed: 0").cells
    assert [(each.recipe.lr, each.recipe.weight_decay) for each in cell.candidates] == [
        (0.01, 0.0), (0.01, 0.1), (0.05, 0.0), (0.05, 0.1)
    ]  # fmt: skip
    for each in cell.candidates:
        assert each.held_out == 40 and each.evals == () and each.select == "last" and each.monitor.every == 2
        assert each.recipe.model_copy(update={"lr": 0.05, "weight_decay": 0.0}) == cell.recipe == plain.recipe
    assert cell.held_out == 0 and cell.ancestors == cell.candidates and cell.wave == 1
    fewer = manifest(TUNE.replace("[0, 0.1]", "[0, 0.2]")).cells[0]
    assert len({cell.id, plain.id, fewer.id, *(each.id for each in cell.candidates)}) == 7


def test_labels_tell_candidates_and_recipes_of_other_steps_apart(manifest):
    names = Names([cell := manifest().cells[0], *cell.candidates])
    labels = [names.label(each) for each in cell.candidates]
    assert labels[:2] == ["Standard, lr 0.01, weight decay 0", "Standard, lr 0.01, weight decay 0.1"]
    assert names.label(cell) == "Standard tuned over 4 recipes" and len(set(labels)) == 4
    steps = "recipe: [{epochs: 2, batch_size: 32, lr: 0.1}, {epochs: 2, batch_size: 32, lr: 0.2}]"
    cells = manifest(steps).cells
    assert [Names(cells).label(each) for each in cells] == ["Standard, lr 0.1", "Standard, lr 0.2"]
    # Where other settings tell cells apart, their steps are left out.
    cells = manifest(steps.replace("epochs: 2, batch_size: 32, lr: 0.2", "epochs: 3, batch_size: 32, lr: 0.2")).cells
    assert [Names(cells).label(each) for each in cells] == ["Standard, 2 epochs", "Standard, 3 epochs"]


def test_the_cell_trains_on_all_images_by_the_best_choice(manifest, digits, tmp_path):
    (cell,) = manifest().cells
    (alone,) = manifest("recipe: {epochs: 2, batch_size: 32, lr: 0.01, weight_decay: 0.1}").cells
    at = place(tmp_path / "runs", digits)
    for each, standing in zip(cell.candidates, (0.5, 0.75, 0.75, 0.25), strict=True):
        judged(each, at.runs, standing)
    train.run_cell(cell, at)
    train.run_cell(alone, at)
    records = read(at.runs / cell.id / "train.jsonl")
    assert records[0].tuned == {cell.id: {"lr": 0.01, "weight_decay": 0.1}}  # the first of two equal ones
    epochs = [record for record in records if isinstance(record, Epoch)]
    assert [epoch.lr for epoch in epochs] == [0.01, 0.01] and {epoch.images for epoch in epochs} == {128}
    # The training of an ordinary cell with these values is the oracle.
    mine, theirs = (trained(each, at.runs).state_dict() for each in (cell, alone))
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_the_search_is_trained_first_and_decides_by_real_accuracies(manifest, digits, tmp_path):
    planned = manifest("tune: {recipe: {lr: [1e-6, 0.05]}, images: 40, by: Clean}")
    at = place(tmp_path / "runs", digits)
    (cell,) = planned.cells
    levels = [[job.task.cell.id for job in wave.jobs] for wave in waves(planned, at) if wave.name.startswith("train")]
    assert levels == [[each.id for each in cell.candidates], [cell.id]]
    with pytest.raises(ValueError, match=rf"{cell.candidates[0].id}/train\.jsonl: holds no accuracy after the last"):
        tuned(cell, at.runs)
    for each in (*cell.candidates, cell):
        train.run_cell(each, at)
    found = [
        record.standing
        for each in cell.candidates
        for record in read(at.runs / each.id / "train.jsonl")
        if isinstance(record, MonitorPoint)
    ]
    (start,) = [record for record in read(at.runs / cell.id / "train.jsonl") if isinstance(record, Start)]
    assert len(found) == 2 and start.tuned == {cell.id: {"lr": (1e-6, 0.05)[found[1] > found[0]]}}


def test_a_training_that_was_interrupted_keeps_its_recipe(manifest, digits, tmp_path, monkeypatch):
    (cell,) = manifest().cells
    at, written = place(tmp_path / "runs", digits), train._checkpoint
    for each, standing in zip(cell.candidates, (0.0, 0.5, 0.25, 0.25), strict=True):
        judged(each, at.runs, standing)

    def stops(*arguments):
        written(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_checkpoint", stops)
    with pytest.raises(KeyboardInterrupt):
        train.run_cell(cell, at)
    monkeypatch.undo()
    train.run_cell(cell, at)
    records = read(at.runs / cell.id / "train.jsonl")
    assert [(r.epoch, r.lr) for r in records if isinstance(r, Epoch)] == [(0, 0.01), (1, 0.01)]
    starts = [record for record in records if isinstance(record, Start)]
    assert len(starts) == 2 and starts[0].tuned == starts[1].tuned == {cell.id: {"lr": 0.01, "weight_decay": 0.1}}


def test_all_hours_of_the_search_count(manifest, tmp_path):
    planned, runs = manifest(), tmp_path / "runs"
    (cell,) = planned.cells
    for number, each in enumerate(cell.candidates):
        judged(each, runs, number / 4)
    record(cell, runs)
    measured = load(planned, [runs])
    row, needed = timing(planned, measured).iloc[0], teachers(measured)
    assert row["hours_with_teacher"] == pytest.approx(5 * row["hours"] + 4 * 90 / 3600)
    assert [*hours_with_teacher(measured[0]).values()] == pytest.approx([row["hours_with_teacher"]])
    assert needed["kind"].tolist() == ["training", "validation"] * 4
    assert needed["name"].tolist()[::2] == [
        f"cnn2c2f Standard, tried with lr {lr}, weight_decay {decay}" for lr in (0.01, 0.05) for decay in (0, 0.1)
    ]


def test_a_report_says_what_was_chosen_for_each_seed(manifest, digits, tmp_path):
    planned = manifest(seed=[0, 1, 2])
    at = place(tmp_path / "runs", digits)
    for cell, best in zip(planned.cells, (0, 3, 0), strict=True):
        for number, each in enumerate(cell.candidates):
            judged(each, at.runs, float(number == best))
        train.run_cell(cell, at)
    assert name(planned.cells[1]) == "Standard tuned over 4 recipes seed 1"
    found = read_frames(tmp_path / "tuned.yaml", [at.runs], quick=False, allow=())
    lines = [line for line in header(found.manifest, found.measured, found.frames) if "recipes: lr" in line]
    assert lines == [
        "Standard tuned over 4 recipes: lr 0.01, weight_decay 0 (seed 0, 2); lr 0.05, weight_decay 0.1 (seed 1), by the"
        " accuracy at eps by PGD(steps=2, restarts=1) on 40 training images that were held out. Hours with teacher"
        " include these trainings."
    ]


def test_quick_keeps_the_choices(manifest):
    (cell,) = manifest(quick=True).cells
    ratios = [each.recipe.lr / cell.recipe.lr for each in cell.candidates]
    assert ratios == pytest.approx([0.2, 0.2, 1, 1]) and len({each.id for each in cell.candidates}) == 4
    assert all(0 < each.held_out <= each.images // 4 for each in cell.candidates)


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("{recipe: {lr: [0.1]}, images: 9, by: PGD}", r"cells\[0\]\.tune\.recipe: makes 1 choices \(allowed: 2 to 100"),
        ("{recipe: {lr: 0.1}, images: 9, by: PGD}", r"tune\.recipe\.lr: 0\.1 \(allowed: a list of at least one number"),
        ("{recipe: {lr: [0.1, 0]}, images: 9, by: PGD}", r"tune\.recipe\.lr\[1\]: 0"),
        ("{recipe: {epochs: [1, 2]}, images: 9, by: PGD}", r"tune\.recipe\.epochs: unknown key \(allowed: lr, momen"),
        ("{recipe: {lr: [0.1, 0.1]}, images: 9, by: PGD}", r"tune\.recipe: has a value twice \(allowed: each once\)"),
        ("{recipe: {lr: [0.1, 0.2]}, images: 97, by: PGD}", r"\[0\]\.tune\.images: 97 \(allowed: at most 96"),
        ("{recipe: {lr: [0.1, 0.2]}, images: 9, by: PDG}", r"tune\.by: unknown name 'PDG' \(allowed: .*PGD"),
        ("{recipe: {lr: [0.1, 0.2]}, by: PGD}", r"tune\.images: missing, but required"),
        ("{lr: [0.1, 0.2]}", r"tune\.lr: unknown key \(allowed: recipe, images, by\)"),
        ("true", r"tune: True \(allowed: a mapping of recipe, images, by\)"),
    ],
)
def test_mistakes(tune, message, manifest):
    with pytest.raises(ValueError, match=message):
        manifest(f"tune: {tune}")


def test_a_cell_that_is_only_timed_is_not_tuned(manifest):
    with pytest.raises(ValueError, match=r"tune: given for cnn2c2f-Standard-s0-\w+, which is only timed"):
        manifest(TUNE + "\n    evals: []", top="timing: {runs: 1, rounds: 1}")
    assert manifest(top="timing: {runs: 1, rounds: 1}").cells[0].candidates
