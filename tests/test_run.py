"""A cell end to end; killed and resumed; judged without being trained again; a study's rounds."""

import multiprocessing
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from waiting import until

from bench.cell import Cell
from bench.jobs import time_arms, train
from bench.jobs.evaluate import run_judge
from bench.jobs.lease import JobPaths, RecordLease, SupersededError
from bench.manifest.manifest import Manifest
from bench.plan.waves import waves
from bench.records import End, Epoch, Fail, Start, Verdict, read, read_all
from crt.training.loop import Training
from launchers.task import unfinished

DATA = "[Clean: {images: 6}, Noisy: {images: 2}, Smoothing: {n: 100, n0: 10, images: 4, every: 3}]"


def weights(cell: Cell, runs: Path) -> dict:
    return torch.load(runs / cell.id / "model.pt", weights_only=True)


def place(runs: Path, data: Path, process: str = "shared") -> JobPaths:
    return JobPaths(runs=runs, data=data, process=process)


def left(manifest: Manifest, at: JobPaths) -> list[str]:
    return [job.task.key for job in unfinished(waves(manifest, at))]


def fresh(cell: Cell, runs: Path, data: Path, work=train.run_cell) -> multiprocessing.Process:
    """The cell's run, started in a process of its own, as launchers do."""
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(cell, place(runs, data, "fresh")), daemon=True
    )
    process.start()
    return process


def stuck(cell: Cell, at: JobPaths) -> None:
    """The cell's run, in the middle of its third epoch for ever."""
    steps, update = [], Training._update

    def counted(self, *batch):
        steps.append(batch)
        if len(steps) == 2.5 * cell.images / cell.recipe.batch_size * self.method.chunks:
            threading.Event().wait()
        return update(self, *batch)

    Training._update = counted
    train.run_cell(cell, at)


def test_cell_is_trained_judged_and_done(tiny, digits, tmp_path):
    manifest = tiny(method="Gaussian", evals=DATA, loader="device")
    cell, at = manifest.cells[0], place(tmp_path / "runs", digits)
    judging = f"judge/{cell.id}/{cell.evals_digest}/0of1"
    assert left(manifest, at) == [f"train/{cell.id}", judging]
    train.run_cell(cell, at)
    assert left(manifest, at) == [judging]
    run_judge(cell, 0, 1, at)
    records = read(at.runs / cell.id / "train.jsonl")
    assert isinstance(records[0], Start) and isinstance(records[-1], End)
    epochs = [r for r in records if isinstance(r, Epoch)]
    assert [(r.epoch, r.warmup, r.images) for r in epochs] == [(0, True, 128), (1, False, 128), (2, False, 128)]
    judged = [(r.eval.split("-")[0], r.index) for r in read_all(at.runs / cell.id) if isinstance(r, Verdict)]
    assert judged == [("Clean", i) for i in range(6)] + [("Noisy", 0), ("Noisy", 1)] + [
        ("Smoothing", i) for i in (0, 3, 6, 9)
    ]
    assert left(manifest, at) == []


def test_judging_in_shards_gives_the_same_verdicts_as_in_one(tiny, digits, tmp_path):
    cell = tiny(method="Gaussian", evals=DATA, loader="device").cells[0]
    verdicts = []
    for shards in (1, 3):
        at = place(tmp_path / str(shards), digits)
        train.run_cell(cell, at)
        for shard in range(shards):
            run_judge(cell, shard, shards, at)
        found = [r for r in read_all(at.runs / cell.id) if isinstance(r, Verdict)]
        verdicts.append({(r.eval, r.index): (r.prediction, r.radius) for r in found})
        assert len(found) == len(verdicts[-1]) == 12
    assert verdicts[0] == verdicts[1]


def test_new_evaluation_does_not_train_again(tiny, digits, tmp_path):
    at = place(tmp_path / "runs", digits)
    cell = tiny().cells[0]
    train.run_cell(cell, at)
    before = (at.runs / cell.id / "model.pt").stat().st_mtime_ns
    more = tiny(evals="[Clean: {images: 5}]")
    assert more.cells[0].id == cell.id and len(left(more, at)) == 1
    train.run_cell(more.cells[0], at)
    run_judge(more.cells[0], 0, 1, at)
    assert (at.runs / cell.id / "model.pt").stat().st_mtime_ns == before
    assert sum(isinstance(r, Verdict) for r in read_all(at.runs / cell.id)) == 5


def test_student_without_its_teacher_says_why(tiny, digits, tmp_path):
    teacher = tiny(loader="device").cells[0]
    student = tiny(method="CRT", loader="device", teacher="{arch: cnn2c2f, method: Standard, recipe: *r}").cells[0]
    at = place(tmp_path / "runs", digits)
    with pytest.raises(ValueError, match="not trained to the end"):
        train.run_cell(student, at)
    (failure,) = read(at.runs / student.id / "train.jsonl")
    assert isinstance(failure, Fail) and student.teacher.id in failure.reason and teacher.arch == "cnn2c2f"


def test_attempt_that_was_given_up_cannot_write(tmp_path):
    first = RecordLease(tmp_path / "train.jsonl")
    first.append(End(time=1.0))
    second = RecordLease(tmp_path / "train.jsonl")
    with pytest.raises(SupersededError):
        first.append(End(time=2.0))
    second.append(End(time=3.0))
    assert [r.time for r in read(tmp_path / "train.jsonl")] == [1.0, 3.0]


def test_two_processes_do_not_work_on_one_cell(tiny, digits, tmp_path):
    cell = tiny().cells[0]
    process = fresh(cell, tmp_path / "runs", digits, stuck)
    file = tmp_path / "runs" / cell.id / "train.jsonl"
    until(lambda: any(isinstance(r, Epoch) for r in read(file)), process.is_alive)
    with pytest.raises(ValueError, match=f"process {process.pid} .* is at work on it"):
        train.run_cell(cell, place(tmp_path / "runs", digits))
    process.kill()
    process.join()


def test_clock_of_a_node_far_behind_is_named(tiny, digits, tmp_path):
    at = JobPaths(runs=tmp_path / "runs", data=digits, process="fresh", submitted=time.time() + 7200)
    (tmp_path / "runs" / "logs").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"clock is 2\.0 hours behind"):
        train.run_cell(tiny().cells[0], at)


@pytest.mark.parametrize("mount_point_remains", [True, False])
def test_job_without_the_storage_of_its_runs_writes_nothing(tiny, digits, tmp_path, mount_point_remains):
    runs = tmp_path / "runs"
    if mount_point_remains:
        runs.mkdir()
    at = JobPaths(runs=runs, data=digits, process="fresh", submitted=time.time())
    with pytest.raises(FileNotFoundError, match=rf"is its storage mounted.*{runs}"):
        train.run_cell(tiny().cells[0], at)
    assert not list(tmp_path.rglob("runs/*"))


@pytest.mark.parametrize("loader", ["torch", "device"])
def test_killed_in_an_epoch_and_resumed_equals_undisturbed(tiny, digits, tmp_path, loader):
    cell = tiny(method="SmoothMix", epochs=5, loader=loader).cells[0]
    whole, runs = tmp_path / "whole", tmp_path / "cut"
    fresh(cell, whole, digits).join()
    # Kill -9 when the record of epoch 1 is there and epoch 2 is under way.
    process = fresh(cell, runs, digits, stuck)
    epochs = lambda: [r.epoch for r in read_all(runs / cell.id) if isinstance(r, Epoch)]  # noqa: E731
    until(lambda: len(epochs()) == 2, process.is_alive)
    process.kill()
    process.join()
    assert not (runs / cell.id / "model.pt").exists()
    fresh(cell, runs, digits).join()
    assert Counter(epochs()) == dict.fromkeys(range(5), 1)
    for name, value in weights(cell, whole).items():
        assert torch.equal(value, weights(cell, runs)[name]), name


def test_record_lost_between_checkpoint_and_line_is_written_on_resume(tiny, digits, tmp_path, monkeypatch):
    cell, runs = tiny().cells[0], tmp_path / "runs"
    append = train.append

    def dies(path, record):
        if isinstance(record, Epoch) and record.epoch == 1:
            raise KeyboardInterrupt
        append(path, record)

    monkeypatch.setattr(train, "append", dies)
    with pytest.raises(KeyboardInterrupt):
        train.run_cell(cell, place(runs, digits))
    monkeypatch.setattr(train, "append", append)
    train.run_cell(cell, place(runs, digits))
    assert sorted(r.epoch for r in read_all(runs / cell.id) if isinstance(r, Epoch)) == [0, 1, 2]


def test_turns_are_balanced():
    arms = ["a", "b", "c"]
    turns = list(time_arms._turns(arms, 6, seed=0))
    rounds = [[arm for number, arm in turns if number == k] for k in range(1, 7)]
    for block in (rounds[:3], rounds[3:]):
        for place in range(3):
            assert sorted(order[place] for order in block) == arms
