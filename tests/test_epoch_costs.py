"""Factors of a schedule, and the cost of a training's epochs, on made-up records and by counted operations."""

from pathlib import Path

import numpy as np
import pytest
from test_reports import End, append, epoch, start

from bench.build.cost import training_cost
from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.results.contenders import settings
from bench.results.loading import load
from bench.results.schedule import Course, Phase, phases
from reports.figures.schedule import epoch_costs as draw
from reports.tables.schedule import epoch_costs, schedule, schedule_table
from reports.tables.timing import timing

HEAD = """
title: Schedules
baseline: Standard
dataset: digits
loader: device
pipeline: duet
arch: cnn2c2f
threat: {norm: l2, eps: 0.5}
evals: [Clean]
"""
CELLS = """
cells:
  - {method: Standard, recipe: {epochs: 4, batch_size: 64, lr: 0.1}}
  - {method: {LMT: {warmup: WARMUP, ramp: 1}}, recipe: {epochs: 6, batch_size: 64, lr: 0.1}, seed: SEEDS}
"""
IMAGES = 1437
TIMES = {"Standard": [50.0, 1.0, 1.0, 1.0], "LMT": [50.0, 1.5, 4.0, 4.0, 4.0, 4.0]}
"""Seconds of each epoch; the first is warm-up of the machine."""


def manifest(folder: Path, warmup: float = 2, seeds: str = "[0]", head: str = HEAD) -> Manifest:
    text = head + CELLS.replace("WARMUP", f"{warmup:g}").replace("SEEDS", seeds)
    (folder / "m.yaml").write_text(text)
    return read_manifest(folder / "m.yaml")


def train(folder: Path, cell: Cell, times: list[float], early: dict[str, float] | None = None) -> None:
    file = folder / "runs" / cell.id / "train.jsonl"
    cost = {"flops": {cell.id: 40.0}, "early_flops": {cell.id: early} if early else {}}
    append(file, start(loader="device", **cost))
    for number, seconds in enumerate(times):
        append(file, epoch(cell.id, number, seconds, IMAGES))
    append(file, End(time=1.0))


def frames(folder: Path, read: Manifest):
    measured = load(read, [folder / "runs"])
    compared = settings(read, measured)
    return schedule(compared, measured), epoch_costs(compared, measured), timing(read, measured)


def test_the_factors_multiply_to_the_time_of_the_whole_training(tmp_path):
    read = manifest(tmp_path)
    for cell in read.cells:
        train(tmp_path, cell, TIMES[cell.method.name])
    factors, costs, _ = frames(tmp_path, read)
    (row,) = factors.to_dict("records")
    # The untimed first epoch costs as much as the other of its phase.
    assert row["total"] == pytest.approx((2 * 1.5 + 4 * 4.0) / 4) and row["by"] == "trainings"
    assert (row["epochs"], row["steady"]) == (1.5, pytest.approx(4.0))
    assert (row["early"], row["saved"]) == pytest.approx((19 / 24, 5 / 24))
    assert row["total"] == pytest.approx(row["epochs"] * row["steady"] * row["early"])
    own = costs[costs["method"].str.startswith("LMT")].set_index("epoch")["cost"]
    assert own.to_dict() == pytest.approx({2: 1.5, 3: 4.0, 4: 4.0, 5: 4.0, 6: 4.0})
    assert costs[costs["method"] == "Standard"]["cost"].tolist() == pytest.approx([1.0, 1.0, 1.0])
    (table,) = schedule_table(factors)
    assert "total = epochs x steady epoch x early epochs" in table.title


def test_seeds_share_one_line_with_a_band(tmp_path):
    read = manifest(tmp_path, seeds="[0, 1, 2]")
    rng, trained = np.random.default_rng(3), []
    for cell in read.cells:
        steady = np.array(TIMES[cell.method.name][1:])
        trained.append((steady * rng.uniform(0.9, 1.1, len(steady))).tolist())
        train(tmp_path, cell, [50.0, *trained[-1]])
    standard, *curves = trained
    factors, costs, times = frames(tmp_path, read)
    # Geometric means of the seeds' steady epochs, of one baseline.
    level = np.exp(np.mean([np.log(np.mean(each[1:])) for each in curves])) / np.mean(standard)
    assert factors["steady"].tolist() == pytest.approx([level]) and factors["trainings"].tolist() == [3]
    shapes = np.array([np.array(each) / np.mean(each[1:]) for each in curves])
    plot = draw(costs, times)
    own = plot.data[plot.data["series"] == "LMT"]
    assert own["epoch"].tolist() == [2, 3, 4, 5, 6] and set(own["seeds"]) == {3}
    assert own["cost"].tolist() == pytest.approx(level * np.exp(np.log(shapes).mean(0)))
    assert (own["cost_low"] < own["cost"]).all() and (own["cost"] < own["cost_high"]).all()


def test_operations_tell_what_no_epoch_does_and_old_records_have_a_dash(tmp_path):
    read = manifest(tmp_path, warmup=1)
    standard, lmt = read.cells
    train(tmp_path, standard, TIMES["Standard"])
    train(tmp_path, lmt, [50.0, *5 * [4.0]], {"0": 10.0})
    factors, _, _ = frames(tmp_path, read)
    (row,) = factors.to_dict("records")
    assert row["by"] == "operations" and row["early"] == pytest.approx((10 / 40 + 5) / 6)
    old = tmp_path / "old"
    old.mkdir()
    for cell in read.cells:
        train(old, cell, [50.0, *5 * [4.0]][: cell.recipe.epochs])
    (row,) = frames(old, read)[0].to_dict("records")
    assert row["by"] is None and np.isnan(row["early"]) and np.isnan(row["total"]) and row["steady"] == pytest.approx(1)


STUDY = HEAD + "timing: {runs: 3, rounds: 2}\n"


def test_a_training_on_a_slower_machine_gives_the_course_and_a_study_the_level(tmp_path):
    read = manifest(tmp_path, head=STUDY)
    (study,) = read.studies
    for run in range(3):
        file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
        append(file, start(loader="device", flops={arm.id: 1.0 for arm in study.arms}))
        for turn in (1, 2):
            for arm in study.arms:
                seconds = 4.0 if arm.method.name == "LMT" else 1.0
                append(file, epoch(arm.id, turn, seconds * (1 + run / 10), IMAGES, turn))
    standard, lmt = read.cells
    train(tmp_path, standard, [50.0, 10.0, 10.0, 10.0])
    train(tmp_path, lmt, [50.0, 3.0, 8.0, 8.0, 8.0, 8.0])
    factors, costs, times = frames(tmp_path, read)
    row = factors[factors["method"].str.startswith("LMT")].iloc[0]
    assert row["steady"] == pytest.approx(4) and row["early"] == pytest.approx((2 * 3 / 8 + 4) / 6)
    assert row["total"] == pytest.approx(19 / 4)
    own = costs[costs["method"].str.startswith("LMT")].set_index("epoch")["cost"]
    assert own.to_dict() == pytest.approx({2: 1.5, 3: 4.0, 4: 4.0, 5: 4.0, 6: 4.0})
    assert len(draw(costs, times).axes) == 1


def test_an_epoch_that_a_boundary_divides_has_a_part_of_each_cost():
    course = Course((Phase(0, 1.5), Phase(1.5, 4)), (0.5, 1.0), "operations")
    assert [course.epoch(number) for number in range(4)] == [0.5, 0.75, 1.0, 1.0]
    assert course.early == pytest.approx((1.5 * 0.5 + 2.5) / 4)


def test_methods_with_equal_steps_have_one_phase_and_no_table(tmp_path):
    text = HEAD + "cells: [{method: [Standard, Gaussian], recipe: {epochs: 4, batch_size: 64, lr: 0.1}}]\n"
    (tmp_path / "m.yaml").write_text(text.replace("eps: 0.5", "eps: 0.5, sigma: 0.25"))
    read = read_manifest(tmp_path / "m.yaml")
    for cell in read.cells:
        assert phases(cell) == (Phase(0, 4),)
        train(tmp_path, cell, TIMES["Standard"])
    factors, _, _ = frames(tmp_path, read)
    assert factors["by"].tolist() == ["constant"] and factors["total"].tolist() == pytest.approx([1.0])
    assert not list(schedule_table(factors))


def test_operations_of_early_phases_are_counted(tmp_path):
    text = HEAD.replace("evals: [Clean]", "recipe: {epochs: 6, batch_size: 64, lr: 0.1}")
    cells = "cells: [{method: [Standard, {CROWNIBP: {warmup: 2, ramp: 3, beta_final: 0}}]}]\n"
    (tmp_path / "m.yaml").write_text(text + cells)
    standard, crown = read_manifest(tmp_path / "m.yaml").cells
    cost = training_cost([standard, crown])
    assert list(cost.early_flops) == [crown.id] and list(cost.early_flops[crown.id]) == ["0", "2"]
    # Its warm-up is standard training; linear bounds, which the ramp alone uses, cost more than intervals.
    assert cost.early_flops[crown.id]["0"] == cost.flops[standard.id]
    assert cost.early_flops[crown.id]["2"] > cost.flops[crown.id] > cost.flops[standard.id]
    assert [(phase.first, phase.end) for phase in phases(crown)] == [(0, 2), (2, 5), (5, 6)]


def test_a_study_times_steps_that_a_short_training_does_not_reach(tmp_path):
    read = manifest(tmp_path, warmup=7, head=STUDY)
    (study,) = read.studies
    file = tmp_path / "runs" / study.id / "run0" / "time.jsonl"
    counts = {"flops": {arm.id: 40.0 for arm in study.arms}, "early_flops": {read.cells[1].id: {"0": 10.0}}}
    append(file, start(loader="device", **counts))
    for arm in study.arms:
        append(file, epoch(arm.id, 1, 4.0 if arm.method.name == "LMT" else 1.0, IMAGES, 1))
    train(tmp_path, read.cells[1], TIMES["LMT"])
    (row,) = frames(tmp_path, read)[0].to_dict("records")
    # All six epochs are warm-up, with a quarter of the operations that the study times.
    assert row["by"] == "operations" and row["early"] == pytest.approx(10 / 40)
    assert row["total"] == pytest.approx(6 / 4 * 4.0 * 10 / 40)
