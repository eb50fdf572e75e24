"""The tasks that a manifest asks for, in waves, each with how far it is."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.build.robust_dataset import chunks
from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.jobs.task import BenchTask
from bench.jobs.tasks import DataTask, EvaluateTask, RobustDatasetTask, TrainTask
from bench.jobs.timing_tasks import TimeTask
from bench.manifest.labels import labels_beside_ids
from bench.manifest.manifest import Manifest
from bench.records import Record, read, read_all
from crt.data import DATASETS
from crt.data.beton_file import held
from launchers.task import Job, Wave

BenchJob = Job[BenchTask]
BenchWave = Wave[BenchTask]


def waves(
    manifest: Manifest, place: JobPaths, shards: int | None = None, sources: dict[str, Path] | None = None
) -> list[BenchWave]:
    """Every job of the manifest, finished ones marked: datasets first, then teachers before students.

    What judges a wave's networks waits for that wave alone, and no training waits for it; a timing study waits for no
    network. `shards` are the jobs that a cell's judging is spread over, each of one rank; without it, one job of the
    cell's own ranks. `sources` names the folders that missing datasets are written from.
    """
    found: list[BenchWave] = []
    _add(found, "data", _preparing(manifest, place, sources or {}), None)
    ready = 0 if found else None
    if manifest.timing:
        _add(found, "time", _timing(manifest, place), ready)
    training: dict[int, int] = {}
    levels = _levels(manifest)
    for level in sorted(levels):
        training[level] = len(found)
        jobs = [_train(cell, place) for cell in levels[level]]
        # What a student of the next level is to learn from is made beside the training of this one.
        made = {cell.robust: cell for cell in levels.get(level + 1, ()) if cell.robust}
        jobs += [job for cell in made.values() for job in _robustify(cell, place, shards)]
        _add(found, f"train{level}", jobs, training.get(level - 1, ready))
    for level in sorted(levels):
        cells = [cell for cell in manifest.trained if cell.wave == level and cell.evals]
        jobs = [job for cell in cells for job in _judging(cell, place, shards)]
        _add(found, f"judge{level}", jobs, training[level])
    return found


def _add(found: list[BenchWave], name: str, jobs: Iterable[BenchJob], after: int | None) -> None:
    jobs = tuple(jobs)
    if jobs:
        found.append(Wave(name=name, jobs=jobs, after=after))


def _levels(manifest: Manifest) -> dict[int, list[Cell]]:
    """The manifest's cells and the teachers they need, by what must be trained or made before them."""
    levels: dict[int, dict[str, Cell]] = {}
    for cell in manifest.trained:
        for one in (cell, *cell.lineage):
            levels.setdefault(one.wave, {}).setdefault(one.id, one)
    # A level may hold nothing but datasets that are made.
    return {level: list(levels.get(level, {}).values()) for level in range(max(levels, default=-1) + 1)}


def _job(task: BenchTask, records: Sequence[Record]) -> BenchJob:
    return Job(task=task, progress=task.progress(records))


def _preparing(manifest: Manifest, place: JobPaths, sources: dict[str, Path]) -> Iterator[BenchJob]:
    for name in sorted({cell.dataset for cell in manifest.cells} & set(sources)):
        job = _job(DataTask(dataset=name, source=sources[name], place=place), ())
        if not job.progress.finished:
            yield job


def _train(cell: Cell, place: JobPaths) -> BenchJob:
    task = TrainTask(cell=cell, place=place)
    return _job(task, read(task.records))


def _robustify(cell: Cell, place: JobPaths, shards: int | None) -> Iterator[BenchJob]:
    parts = min(shards or 1, len(chunks(cell)))
    for shard in range(parts):
        task = RobustDatasetTask(cell=cell, shard=shard, shards=parts, **_ranks(cell, shards), place=place)
        yield _job(task, ())


def _judging(cell: Cell, place: JobPaths, shards: int | None) -> Iterator[BenchJob]:
    records = read_all(place.runs / cell.id)
    images = held(DATASETS[cell.dataset], "test", place.data)
    # The number of shards depends on what is asked, not on what is left, so that a shard keeps its name.
    parts = min(shards or 1, max(len(spec.indices(images)) for spec in cell.evals))
    for shard in range(parts):
        task = EvaluateTask(cell=cell, shard=shard, shards=parts, **_ranks(cell, shards), place=place)
        yield _job(task, records)


def _ranks(cell: Cell, shards: int | None) -> dict[str, int]:
    """Ranks and nodes of a shard: one of each where shards are spread, else those of the cell."""
    return {"ranks": 1, "nodes": 1} if shards else {"ranks": cell.ranks, "nodes": cell.nodes}


def _timing(manifest: Manifest, place: JobPaths) -> Iterator[BenchJob]:
    """Run by run over the studies, so that what is cut short has some of each."""
    for run in range(manifest.timing.runs):
        for study in manifest.studies:
            task = TimeTask(study=study, number=run, place=place)
            yield _job(task, read(task.records))


def cell_labels(jobs: Iterable[BenchJob]) -> dict[str, str]:
    """What the jobs' cells are called beside one another, by the tasks' keys; only where the key says less."""
    cells = {job.task.key: job.task.label_cell for job in jobs}
    return labels_beside_ids({key: cell for key, cell in cells.items() if cell})


def pluralize(jobs: int) -> str:
    """So many jobs, in words."""
    return f"{jobs} job{'s' * (jobs != 1)}"
