"""Tasks: keys and shapes stay, pickles are small and stable, and jobs queued before there were tasks still run."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from submitit.core.utils import DelayedSubmission

from bench.jobs.lease import JobPaths
from bench.jobs.task import BenchTask
from bench.jobs.tasks import EvaluateTask, TrainTask
from bench.jobs.timing_tasks import CertificationTask, TimeTask
from bench.manifest import read_manifest
from bench.plan.waves import waves
from bench.records import Epoch
from launchers.task import Job, TaskProgress, unfinished

ROOT = Path(__file__).parents[1]
BEFORE = Path(__file__).parent / "golden" / "jobs-before-tasks"
TEACHER, STUDENT, STUDY = "cnn2c2f-Standard-s0-84d44ae6", "cnn2c2f-RDT-s0-a42e1bed", "before-cnn2c2f-f8212971"
PLANNED = [
    # wave, key, group, records, ranks and nodes, timed: as the version planned them that had no tasks
    ("data", "data/digits", "data/digits", "data/digits.jsonl", (1, 1), False),
    ("time", f"time/{STUDY}/run0", f"time/{STUDY}", f"runs/{STUDY}/run0/time.jsonl", (1, 1), True),
    ("train0", f"train/{TEACHER}", f"train/{TEACHER}", f"runs/{TEACHER}/train.jsonl", (1, 1), True),
    (
        "train1",
        f"robust/{TEACHER}/rdt-0904ac9b/0of1",
        f"robust/{TEACHER}",
        f"runs/{TEACHER}/rdt-0904ac9b/0of1.jsonl",
        (1, 1),
        True,
    ),
    ("train2", f"train/{STUDENT}", f"train/{STUDENT}", f"runs/{STUDENT}/train.jsonl", (1, 1), True),
    *(
        (
            f"judge{wave}",
            f"judge/{cell}/9c860d94/{shard}of2",
            f"judge/{cell}",
            f"runs/{cell}/judge-9c860d94-{shard}of2.jsonl",
            (1, 1),
            False,
        )
        for wave, cell in ((0, TEACHER), (2, STUDENT))
        for shard in (0, 1)
    ),
]


def planned(shards: int | None = 2) -> list[tuple[str, Job[BenchTask]]]:
    """Jobs of the manifest whose jobs were pickled before there were tasks, each behind the name of its wave."""
    place = JobPaths(runs=Path("runs"), data=Path("data"), process="fresh", submitted=1.0)
    found = waves(read_manifest(BEFORE / "before.yaml"), place, shards, {"digits": Path("data")})
    return [(wave.name, job) for wave in found for job in wave.jobs]


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A folder as a submitter leaves it, and the environment of a job's only rank under Slurm."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "logs").mkdir(parents=True)
    step = {"SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    for name, value in (step | {"SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SUBMITIT_EXECUTOR": "slurm"}).items():
        monkeypatch.setenv(name, value)


def kinds() -> dict[str, list[str]]:
    """The kinds of records in the current folder, by file."""
    files = sorted(Path("runs").rglob("*.jsonl"))
    return {str(file): [json.loads(line)["kind"] for line in file.read_text().splitlines()] for file in files}


def test_tasks_are_planned_and_named_as_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = [
        (wave, task.key, task.group, str(task.records), (task.ranks, task.nodes), task.timed)
        for wave, task in ((wave, job.task) for wave, job in planned())
    ]
    assert shown == PLANNED
    totals = [job.progress for _, job in planned()]
    assert totals == [TaskProgress(0, total) for total in (1, 4, 1, 1, 1, 2, 2, 2, 2)]


def test_tasks_say_which_cells_they_are_of_and_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks = [job.task for _, job in planned(None)]
    assert [task.label_cell and task.label_cell.id for task in tasks] == [
        *(None, None, TEACHER, STUDENT, STUDENT, TEACHER, STUDENT)
    ]
    assert [[cell.id for cell in task.training_cells] for task in tasks] == [
        *([], [TEACHER, STUDENT], [TEACHER], [], [STUDENT], [], [])
    ]


def test_a_job_queued_before_there_were_tasks_still_runs(node):
    for name in ("data", "time", "train-teacher", "robust", "train-student", "judge"):
        queued = DelayedSubmission.load(BEFORE / f"{name}.pkl")
        queued.result()
        # Interrupted, it is queued again.
        again = queued._checkpoint_function()
        assert pickle.loads(cloudpickle.dumps(again)).function.args == queued.function.args
    assert kinds() == {
        f"runs/{STUDY}/run0/time.jsonl": ["start", *["epoch"] * 4, "phases", "phases", "end"],
        f"runs/{STUDENT}/judge-9c860d94-0of2.jsonl": ["start", "verdict", "verdict", "end"],
        f"runs/{STUDENT}/train.jsonl": ["start", "epoch", "end"],
        f"runs/{TEACHER}/rdt-0904ac9b/0of1.jsonl": ["start", "made", "end"],
        f"runs/{TEACHER}/train.jsonl": ["start", "epoch", "end"],
    }
    left = [job.task.key for _, job in planned() if not job.progress.finished]
    assert left == [
        f"judge/{TEACHER}/9c860d94/0of2",
        f"judge/{TEACHER}/9c860d94/1of2",
        f"judge/{STUDENT}/9c860d94/1of2",
    ]


def test_a_pickled_task_is_the_same_before_and_after_it_ran_and_runs_alike(node):
    before = [(job.task.key, cloudpickle.dumps(DelayedSubmission(job.task))) for _, job in planned()]
    for _, content in before:
        pickle.loads(content).result()
    runs = kinds()
    assert [file for file in runs if runs[file][-1] != "end"] == [] and len(runs) == len(before) - 1
    assert all(job.progress.finished for _, job in planned())
    assert before[1:] == [(job.task.key, cloudpickle.dumps(DelayedSubmission(job.task))) for _, job in planned()]


def test_a_pickle_holds_a_task_and_little_else_and_needs_no_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, (_, job) in enumerate(planned()):
        content = cloudpickle.dumps(job.task)
        assert pickle.loads(content) == job.task
        assert len(content) < 3000
        (tmp_path / f"{number}.pkl").write_bytes(content)
    code = "import pickle, sys; [pickle.load(open(f, 'rb')).key for f in sys.argv[1:]]; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, *map(str, tmp_path.glob("*.pkl"))]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "False\n"


def test_shards_are_those_that_evaluations_were_queued_in_last():
    keys = ["judge/a/1/0of8", "judge/a/1/1of8", "train/b", "judge/b/2/0of3", "robust/a/rdt-1/0of5"]
    assert EvaluateTask.shards_of(keys) == 3 and EvaluateTask.shards_of(keys[2:3]) is None


def test_ranks_are_the_cells_own_where_a_task_is_not_spread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = JobPaths(runs=Path("runs"), data=Path("data"), process="fresh")
    manifest = read_manifest(BEFORE / "before.yaml")
    cells = [manifest.cells[0].model_copy(update={"ranks": 4, "nodes": 2, "teacher": None})]
    manifest = manifest.model_copy(update={"timing": None, "cells": tuple(cells)})
    for shards, shape, file in ((None, (4, 2), "0of4"), (2, (1, 1), "0of2")):
        (_, judge, *_) = (job.task for job in unfinished(waves(manifest, place, shards)))
        assert (judge.ranks, judge.nodes) == shape and judge.records.stem.endswith(f"-{file}")


def test_a_certification_is_a_task_beside_the_studies(tmp_path):
    (tmp_path / "m.yaml").write_text(
        (BEFORE / "before.yaml")
        .read_text()
        .replace("eps: 8/255", "eps: 8/255, sigma: 0.5")
        .replace("images: 32}", "images: 32, certify: {images: 1, n: 10}}")
    )
    place = JobPaths(runs=tmp_path / "runs", data=tmp_path, process="shared")
    for certification in read_manifest(tmp_path / "m.yaml").certifications:
        task = CertificationTask(certification=certification, place=place)
        assert task.key == f"time/{certification.id}/run0" and task.compiled is certification.compiled
        assert task.records == place.runs / certification.id / "run0" / "time.jsonl"
        assert task.progress([]) == TaskProgress(0, 2) and list(task.cost()) == []


def test_a_task_that_lacks_a_part_of_the_contract_is_refused():
    class Half(BenchTask):
        key = group = "half"

    with pytest.raises(TypeError, match=r"abstract .*progress.*records.*run"):
        Half(place=JobPaths(runs=Path("runs"), data=Path("data"), process="fresh"))


def epoch(arm: str, number: int) -> Epoch:
    given = {"arm": arm, "round": number, "epoch": number, "seconds": 1.0, "warmup": False, "images": 1, "lr": 0.1}
    return Epoch(**given, loss=0.0, memory=None)


def test_repeated_and_foreign_records_are_no_progress():
    """Damaged records may hold a line many times, and numbers beyond the last epoch."""
    for _, job in planned():
        task, foreign = job.task, [epoch("other", number) for number in range(1000)]
        if not isinstance(task, TrainTask | TimeTask):
            continue
        cells = (task.cell,) if isinstance(task, TrainTask) else task.study.arms
        beyond = [epoch(cells[0].id, 10**9), *([] if isinstance(task, TrainTask) else foreign)]
        total = task.progress([]).total
        whole = [epoch(cell.id, number) for cell in cells for number in range(total // len(cells))]
        assert task.progress(whole[:1] * 100).done == 1 and task.progress(beyond).done == 0
        assert task.progress([*whole, *beyond, *whole]).done == total


PROGRESS = """
import sys
from pathlib import Path
from bench.jobs.lease import JobPaths
from bench.jobs.tasks import TrainTask
from bench.jobs.timing_tasks import CertificationTask
from bench.manifest import read_manifest
many, manifest = 10**15, read_manifest(Path("manifests/speed-cpu.yaml"), networks=False)
(cell, *_), (certification, *_) = manifest.cells, manifest.certifications
place = JobPaths(runs=Path("none"), data=Path("none"), process="fresh")
longer = cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"epochs": many})})
again = certification.model_copy(update={"rounds": many})
tasks = TrainTask(cell=longer, place=place), CertificationTask(certification=again, place=place)
print([task.progress([])[:2] for task in tasks])
"""


def test_a_plan_does_not_count_every_epoch():
    command = [sys.executable, "-c", PROGRESS]
    # Counting them would take years.
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    assert eval(done.stdout) == [(0, 10**15), (0, 10**15 + 1)]
