"""Robust datasets: made chunk by chunk, joined, trained on; gone on with; refused where the teacher is another."""

import numpy as np
import pytest
import torch

from bench.build.networks import trained
from bench.cell import Cell
from bench.jobs import make_robust_dataset
from bench.jobs.lease import JobPaths
from bench.jobs.train import run_cell
from bench.plan.waves import waves
from bench.records import RobustChunk, read_all
from bench.results.loading import load
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure

TEACHER = "{arch: cnn2c2f, method: Standard, recipe: *r}"


@pytest.fixture
def student(tiny, digits, tmp_path, monkeypatch) -> tuple[Cell, JobPaths]:
    """An RDT cell whose teacher is trained; chunks are small."""
    monkeypatch.setattr("bench.build.robust_dataset.CHUNK", 48)
    cell = tiny(method="{RDT: {steps: 5, step: 0.5}}", loader="device", teacher=TEACHER, epochs=2).cells[0]
    at = JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    run_cell(cell.teacher, at)
    return cell, at


def made(cell: Cell, at: JobPaths) -> Beton:
    return Beton(make_robust_dataset.robust_images(cell, at.runs) / "digits-train.beton")


def test_jobs_stand_between_teacher_and_student(tiny, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.build.robust_dataset.CHUNK", 48)
    manifest = tiny(method="RDT", loader="device", teacher=TEACHER)
    cell, at = manifest.cells[0], JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    name = f"robust/{cell.teacher.id}/{cell.robust}"
    found = waves(manifest, at)
    assert [[job.task.key for job in wave.jobs] for wave in found] == [
        [f"train/{cell.teacher.id}"],
        [f"{name}/0of1"],
        [f"train/{cell.id}"],
    ]
    assert [wave.after for wave in found] == [None, 0, 1]
    assert [job.task.key for job in waves(manifest, at, shards=2)[1].jobs] == [f"{name}/0of2", f"{name}/1of2"]


def test_images_come_nearer_to_the_features_of_others_and_have_their_labels(student):
    cell, at = student
    make_robust_dataset.run_robustify(cell, 0, 1, at)
    found, plain = made(cell, at), Beton(ensure(DATASETS["digits"], "train", at.data))
    assert len(found) == 128 and np.array_equal(found.labels, plain.labels[:128])
    teacher = trained(cell.teacher, at.runs).eval()
    pixels = lambda images: torch.tensor(images).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    with torch.no_grad():
        mine, goal = (teacher.features(pixels(b.images(range(128)))) for b in (found, plain))
        starts = [np.random.default_rng((0, first)).integers(0, 128, n) for first, n in ((0, 48), (48, 48), (96, 32))]
        before = teacher.features(pixels(plain.images(np.concatenate(starts))))
    apart = (mine - goal).norm(dim=1)
    assert (apart < (before - goal).norm(dim=1) + 1e-6).float().mean() > 0.95
    assert apart.mean() < 0.7 * (before - goal).norm(dim=1).mean()
    records = [r for r in read_all(make_robust_dataset.folder(cell, at.runs)) if isinstance(r, RobustChunk)]
    assert [(r.first, r.images) for r in records] == [(0, 48), (48, 48), (96, 32)]
    assert records[0].distance == pytest.approx(float(apart[:48].mean()), rel=0.05)


def test_shards_and_an_interrupted_job_make_the_same_images(student, tmp_path):
    cell, at = student
    make_robust_dataset.run_robustify(cell, 0, 1, at)
    whole = made(cell, at).images(range(128))
    home = make_robust_dataset.folder(cell, at.runs)
    (home / "part-48.npz").unlink()
    (home / "made.json").unlink()
    with pytest.raises(ValueError, match="submit again"):
        make_robust_dataset.robust_images(cell, at.runs)
    make_robust_dataset.run_robustify(cell, 0, 2, at)
    with pytest.raises(ValueError, match="submit again"):
        make_robust_dataset.robust_images(cell, at.runs)
    make_robust_dataset.run_robustify(cell, 1, 2, at)
    assert np.array_equal(made(cell, at).images(range(128)), whole)
    assert [r.first for r in read_all(home) if isinstance(r, RobustChunk)] == [0, 48, 96, 48]


def test_a_student_trains_on_them_and_on_those_of_its_teacher_alone(student):
    cell, at = student
    with pytest.raises(ValueError, match="submit again"):
        run_cell(cell, at)
    make_robust_dataset.run_robustify(cell, 0, 1, at)
    run_cell(cell, at)
    assert (at.runs / cell.id / "model.pt").exists()
    weights = at.runs / cell.teacher.id / "model.pt"
    state = torch.load(weights, weights_only=True)
    state["head.bias"] += 1
    torch.save(state, weights)
    with pytest.raises(ValueError, match="made with a teacher of SHA-256"):
        make_robust_dataset.robust_images(cell, at.runs)


def test_the_time_of_making_counts(student, tiny):
    cell, at = student
    make_robust_dataset.run_robustify(cell, 0, 1, at)
    manifest = tiny(method="{RDT: {steps: 5, step: 0.5}}", loader="device", teacher=TEACHER, epochs=2)
    (measured,) = load(manifest, [at.runs])
    spent = sum(r.seconds for r in read_all(make_robust_dataset.folder(cell, at.runs)) if isinstance(r, RobustChunk))
    assert measured.making == pytest.approx(spent / 128)
