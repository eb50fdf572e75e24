"""Networks looked at while they train: curves, the best epoch kept, nothing of training moved by it."""

import pytest
import torch

from bench.cell import Cell
from bench.jobs import train
from bench.jobs.lease import JobPaths
from bench.manifest import read_manifest
from bench.plan.waves import waves
from bench.records import End, Epoch, MonitorPoint, read

MONITORED = """
title: monitored
dataset: digits
pipeline: plain
loader: device
threat: {{norm: linf, eps: 4/255}}
images: 128
cells:
  - method: Standard
    arch: cnn2c2f
    ranks: {ranks}
    recipe: {{epochs: 5, batch_size: 32, lr: {lr}}}
    {extra}
"""
LOOK = "monitor: {every: 2, images: 40, evals: [PGD: {steps: 3}, Clean]}"


@pytest.fixture
def cell(tmp_path):
    def make(extra: str = LOOK, ranks: int = 1, lr: float = 0.05) -> Cell:
        path = tmp_path / "monitored.yaml"
        path.write_text(MONITORED.format(extra=extra, ranks=ranks, lr=lr))
        return read_manifest(path).cells[0]

    return make


def run(cell: Cell, digits, tmp_path, name: str = "runs") -> tuple[dict, list]:
    at = JobPaths(runs=tmp_path / name, data=digits, process="shared")
    train.run_cell(cell, at)
    folder = at.runs / cell.id
    return torch.load(folder / "model.pt", weights_only=True), read(folder / "train.jsonl")


def test_curves_are_recorded_and_move_nothing(cell, digits, tmp_path):
    looked, records = run(cell(), digits, tmp_path)
    plain, _ = run(cell(extra=""), digits, tmp_path)
    assert all(torch.equal(looked[name], plain[name]) for name in plain)
    curves = [r for r in records if isinstance(r, MonitorPoint)]
    assert [(c.epoch, c.eval.split("-")[0], c.images) for c in curves] == [
        (epoch, name, 40) for epoch in (1, 3, 4) for name in ("PGD", "Clean")
    ]
    for attacked, clean in zip(curves[::2], curves[1::2], strict=True):
        assert attacked.right == clean.right and 0 <= attacked.standing <= attacked.right
        # Clean certifies no radius, so nothing stands at the threat's.
        assert clean.standing == 0


def test_the_best_epoch_is_kept(cell, digits, tmp_path, monkeypatch):
    # A step size that climbs until nothing is learned any more: the last epoch is not the best.
    monkeypatch.setattr("crt.training.recipe.Recipe.lr_at", lambda self, epoch: 0.05 if epoch < 4 else 50.0)
    monitor = "monitor: {images: 60, evals: [PGD: {steps: 3}]}"
    best, records = run(cell(f"{monitor}\n    select: best"), digits, tmp_path)
    last, _ = run(cell(monitor), digits, tmp_path)
    standing = [r.standing for r in records if isinstance(r, MonitorPoint)]
    assert standing.index(max(standing)) < 4 and standing[-1] < max(standing)
    assert not torch.equal(best["head.weight"], last["head.weight"])
    again = JobPaths(runs=tmp_path / "again", data=digits, process="shared")
    monkeypatch.setattr(train, "_checkpoint", lambda *_: None)
    chosen = cell(f"{monitor}\n    select: best")
    train.run_cell(chosen, again)
    kept = torch.load(again.runs / chosen.id / "model.pt", weights_only=True)
    assert all(torch.equal(kept[name], best[name]) for name in best)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("select: best", "monitor: missing"),
        ("monitor: {evals: []}", "at least one evaluation"),
        ("monitor: {evals: [Clean], often: 3}", "often: unknown key"),
        ("monitor: {evals: [Clean], every: 0}", "monitor.every"),
        ("monitor: {evals: [Clean]}\n    select: middle", "select"),
    ],
)
def test_mistakes(cell, extra, message):
    with pytest.raises(ValueError, match=message):
        cell(extra)


def test_half_precision_trains(tmp_path, digits):
    losses = {}
    for precision in ("fp32", "fp16"):
        path = tmp_path / f"{precision}.yaml"
        text = MONITORED.format(extra="", ranks=1, lr=0.02)
        path.write_text(text.replace("batch_size: 32", f"batch_size: 32, precision: {precision}"))
        _, records = run(read_manifest(path).cells[0], digits, tmp_path, precision)
        losses[precision] = [r.loss for r in records if isinstance(r, Epoch)]
    assert losses["fp16"][-1] < 0.8 * losses["fp16"][0]
    # Rounding grows with every step.
    assert losses["fp16"][:2] == pytest.approx(losses["fp32"][:2], rel=0.02) and losses["fp16"] != losses["fp32"]


def test_a_timing_study_trains_and_judges_what_it_has_evaluations_for(tmp_path, digits):
    path = tmp_path / "both.yaml"
    path.write_text(
        """
title: both
dataset: digits
pipeline: plain
loader: device
threat: {norm: linf, eps: 4/255}
arch: cnn2c2f
baseline: Standard
timing: {runs: 1, rounds: 1, images: 64}
recipes: [&r {epochs: 1, batch_size: 32, lr: 0.05}]
images: 64
cells:
  - {method: Standard, recipe: *r}
  - {method: SAT, recipe: *r, evals: [PGD: {steps: 2, images: 8}]}
"""
    )
    manifest, at = read_manifest(path), JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    found = waves(manifest, at)
    assert [(wave.name, len(wave.jobs), wave.after) for wave in found] == [
        ("time", 1, None),
        ("train0", 1, None),
        ("judge0", 1, 1),
    ]
    for wave in found:
        for job in wave.jobs:
            job.task.run()
    assert all(job.progress.finished for wave in waves(manifest, at) for job in wave.jobs)
    study = read(at.runs / manifest.studies[0].id / "run0" / "time.jsonl")
    assert isinstance(study[-1], End)
