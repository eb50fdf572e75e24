"""Held-out training images: nothing trains on them, the epoch is chosen by them, and their time is counted apart."""

import math

import numpy as np
import pytest
import torch
from test_data import make, whole
from test_run import place
from test_teachers import train as record

from bench.build.cost import forward_flops, forwards, step_flops
from bench.build.networks import trained
from bench.build.validation import held_out
from bench.cell import Cell
from bench.jobs import train
from bench.jobs.tasks import TrainTask
from bench.manifest import read_manifest
from bench.plan import devices, estimate
from bench.plan.waves import waves
from bench.records import MonitorPoint, append, read
from bench.results.loading import load
from crt.data import DATASETS
from crt.data.beton_file import Beton
from crt.training.loop import Training
from reports.tables.teachers import teachers
from reports.tables.timing import timing

MANIFEST = """
dataset: {dataset}
pipeline: plain
loader: device
images: 128
arch: {arch}
threat: {{norm: linf, eps: 4/255}}
recipe: {{epochs: 4, batch_size: 32, lr: 0.05}}
seed: {seed}
cells:
  - method: {method}
    {monitor}
"""
HELD = "monitor: {split: validation, images: 40, evals: [PGD: {steps: 2}]}\n    select: best"


@pytest.fixture
def cell(tmp_path):
    def read_one(monitor: str = HELD, method: str = "Standard", seed: int = 0, **others) -> Cell:
        path = tmp_path / "held.yaml"
        places = {"dataset": "digits", "arch": "cnn2c2f"} | others
        path.write_text(MANIFEST.format(monitor=monitor, method=method, seed=seed, **places))
        return read_manifest(path).cells[0]

    return read_one


@pytest.mark.parametrize("kind", ["torch", "device"])
def test_loaders_deliver_all_images_but_those_held_out(kind, digits):
    out = [0, 7, 8, 99, 119]
    made = make(kind, digits, images=120, batch_size=16, held_out=out)
    assert made.images == 115 and len(made) == 8
    x, y, index = whole(made)
    assert sorted(index.tolist()) == sorted(set(range(120)) - set(out))
    beton = Beton(DATASETS["digits"].path("train", digits))
    assert y.tolist() == beton.labels[index].tolist()
    expected = torch.from_numpy(beton.images(index.numpy())).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)
    shares = [whole(make(kind, digits, images=120, held_out=out, rank=r, world=2))[2].tolist() for r in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == 57 and not set(shares[0]) & set(shares[1])


def test_the_split_is_the_seeds_for_every_method(cell):
    one, same, other = cell(), cell(method="SAT"), cell(seed=1)
    assert one.held_out == 40 and len(set(held_out(one))) == 40 and held_out(one).max() < 128
    assert np.array_equal(held_out(one), held_out(same)) and not np.array_equal(held_out(one), held_out(other))
    assert len(held_out(cell(monitor="seed: 0"))) == 0


def test_nothing_trains_on_them_and_they_choose_the_epoch(cell, digits, tmp_path, monkeypatch):
    chosen, at, seen, update = cell(), place(tmp_path / "runs", digits), set(), Training._update

    def noted(self, x, y, step):
        if type(step.index) is torch.Tensor:  # and not one that only counts
            seen.update(step.index.tolist())
        return update(self, x, y, step)

    monkeypatch.setattr(Training, "_update", noted)
    # A step size that climbs until nothing is learned any more: the last epoch is not the best.
    monkeypatch.setattr("crt.training.recipe.Recipe.lr_at", lambda self, epoch: 0.05 if epoch < 3 else 50.0)
    train.run_cell(chosen, at)
    out = held_out(chosen).tolist()
    assert seen == set(range(128)) - set(out)
    points = [r for r in read(at.runs / chosen.id / "train.jsonl") if isinstance(r, MonitorPoint)]
    assert [p.images for p in points] == [40] * 4 and all(p.seconds > 0 for p in points)
    best = max(points, key=lambda point: point.standing)
    assert best.epoch < 3
    beton, model = Beton(DATASETS["digits"].path("train", digits)), trained(chosen, at.runs).eval()
    x = torch.from_numpy(beton.images(out)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        right = (model(x).argmax(1).numpy() == beton.labels[out]).mean()
    assert right == pytest.approx(best.right)


def test_it_is_another_cell_unless_there_is_none(cell):
    tests = cell("monitor: {images: 40, evals: [PGD: {steps: 2}]}\n    select: best")
    said = cell("monitor: {split: test, images: 40, evals: [PGD: {steps: 2}]}\n    select: best")
    assert tests.id == said.id and len({tests.id, cell().id, cell(HELD.replace("40", "41")).id}) == 3


def test_its_time_is_counted_apart(cell, tmp_path):
    held, runs = cell(), tmp_path / "runs"
    manifest = read_manifest(tmp_path / "held.yaml")
    record(held, runs)
    for epoch in range(4):
        point = MonitorPoint(
            arm=held.id, epoch=epoch, eval=held.monitor.evals[0].id, images=40, right=1, standing=0.5, seconds=90.0
        )
        append(runs / held.id / "train.jsonl", point)
    measured = load(manifest, [runs])
    row, needed = timing(manifest, measured).iloc[0], teachers(measured)
    assert row["hours_with_teacher"] - row["hours"] == pytest.approx(0.1)
    assert needed[["kind", "name", "hours"]].to_numpy().tolist() == [
        ["validation", "validation of cnn2c2f Standard", 0.1]
    ]
    append(runs / held.id / "train.jsonl", point.model_copy(update={"epoch": 3, "seconds": None}))
    assert math.isnan(timing(manifest, load(manifest, [runs])).iloc[0]["hours_with_teacher"])


def test_estimates_count_the_images_that_are_left_and_the_evaluations(cell, digits, tmp_path):
    held, at, speed = (
        cell(HELD.replace("images: 40", "images: 40, every: 3")),
        place(tmp_path, digits),
        devices.speed("a100"),
    )
    training, judging = TrainTask(cell=held, place=at).cost()
    assert training.operations() == step_flops(held) * 88 * 4
    # After epochs 3 and 4.
    spec = held.monitor.evals[0]
    assert judging.operations() == pytest.approx(forwards(held, spec) * forward_flops(held) * 40 * 2)
    ((job,),) = [wave.jobs for wave in waves(read_manifest(tmp_path / "held.yaml"), at)]
    found = estimate.expected(job, speed, {"cnn2c2f-Standard": 1e9})
    seconds = training.operations() / 1e9 + judging.operations() / speed.flops("fp32")
    assert found.recorded and found.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("{split: validation, evals: [PGD]}", r"monitor\.images: missing, and split: validation holds so many out"),
        ("{split: validation, images: 97, evals: [PGD]}", r"monitor\.images: 97 \(allowed: at most 96, which leave a"),
        ("{split: train, images: 9, evals: [PGD]}", r"monitor\.split: 'train'"),
    ],
)
def test_mistakes(monitor, message, cell):
    with pytest.raises(ValueError, match=message):
        cell(f"monitor: {monitor}")


def test_a_quick_run_leaves_images_to_train_on(cell, tmp_path):
    cell()
    (quick,) = read_manifest(tmp_path / "held.yaml", quick=True).cells
    assert 0 < quick.held_out <= quick.images // 4 and quick.recipe.batch_size <= quick.images - quick.held_out


def test_images_of_any_size_are_not_held_out(cell):
    with pytest.raises(ValueError, match=r"monitor\.split: 'validation' \(allowed: for cifar10, .*digits, whose"):
        cell(dataset="imagenet", arch="imagenet_resnet18")
