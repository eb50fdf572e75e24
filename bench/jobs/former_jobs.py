"""Functions that an earlier version queued by name: each builds the corresponding task and runs it."""

from pathlib import Path

from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.jobs.tasks import DataTask, EvaluateTask, RobustDatasetTask, TrainTask
from bench.jobs.timing_tasks import TimeTask
from bench.manifest.manifest import Study


def run_cell(cell: Cell, place: JobPaths) -> None:
    TrainTask(cell=cell, place=place).run()


def run_study(study: Study, run: int, place: JobPaths) -> None:
    TimeTask(study=study, number=run, place=place).run()


def run_judge(cell: Cell, shard: int, shards: int, place: JobPaths) -> None:
    EvaluateTask(cell=cell, shard=shard, shards=shards, place=place).run()


def run_robustify(cell: Cell, shard: int, shards: int, place: JobPaths) -> None:
    RobustDatasetTask(cell=cell, shard=shard, shards=shards, place=place).run()


def run_prepare(name: str, source: Path, place: JobPaths) -> None:
    DataTask(dataset=name, source=source, place=place).run()
