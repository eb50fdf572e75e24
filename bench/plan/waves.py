"""Plan the tasks of a manifest in waves, each with its progress."""

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
from crt.data.held import held
from launchers.task import Job, Wave

BenchJob = Job[BenchTask]
BenchWave = Wave[BenchTask]


def waves(
    manifest: Manifest, place: JobPaths, shards: int | None = None, sources: dict[str, Path] | None = None
) -> list[BenchWave]:
    """All jobs of the manifest, including finished ones: datasets first, then networks before those that need them.

    The evaluation of a wave's networks waits for that wave only, and no training waits for it. A timing study waits for
    no network. `shards` is the number of one-rank jobs that a cell's evaluation is split into; without it, the
    evaluation is one job with the cell's ranks. `sources` names the folders that missing datasets are written from; one
    that is made from an image folder has its own.
    """
    planned: list[BenchWave] = []
    _add(planned, "data", _preparing(manifest, place, sources or {}), None)
    ready = 0 if planned else None
    if manifest.timing:
        _add(planned, "time", _timing(manifest, place), ready)
        if manifest.timing.until:
            _add(planned, "time2", _further_runs(manifest, place), len(planned) - 1)
    training: dict[int, int] = {}
    levels = _levels(manifest)
    for level in sorted(levels):
        training[level] = len(planned)
        jobs = [_train(cell, place) for cell in levels[level]]
        # The robust datasets for students of the next level are generated while this level trains.
        datasets = {cell.robust: cell for cell in levels.get(level + 1, ()) if cell.robust}
        jobs += [job for cell in datasets.values() for job in _robustify(cell, place, shards)]
        _add(planned, f"train{level}", jobs, training.get(level - 1, ready))
    for level in sorted(levels):
        cells = [cell for cell in manifest.trained if cell.wave == level and cell.evals]
        jobs = [job for cell in cells for job in _judging(cell, place, shards)]
        _add(planned, f"judge{level}", jobs, training[level])
    return planned


def _add(planned: list[BenchWave], name: str, jobs: Iterable[BenchJob], after: int | None) -> None:
    wave = Wave(name=name, jobs=tuple(jobs), after=after)
    if wave.jobs:
        planned.append(wave)


def _levels(manifest: Manifest) -> dict[int, list[Cell]]:
    """Cells to train, ancestors included, by the number of trainings and datasets that must come before them."""
    levels: dict[int, dict[str, Cell]] = {}
    for cell in manifest.trained:
        for network in (cell, *cell.ancestors):
            levels.setdefault(network.wave, {}).setdefault(network.id, network)
    # A level may have no cells of its own, only robust datasets to generate.
    return {level: list(levels.get(level, {}).values()) for level in range(max(levels, default=-1) + 1)}


def _job(task: BenchTask, records: Sequence[Record]) -> BenchJob:
    return Job(task=task, progress=task.progress(records))


def _preparing(manifest: Manifest, place: JobPaths, sources: dict[str, Path]) -> Iterator[BenchJob]:
    networks = [network for cell in manifest.cells for network in (cell, *cell.ancestors)]
    for name, folder in sorted({network.dataset: network.folder for network in networks}.items()):
        source = folder.source if folder else sources.get(name)
        if source is None:
            continue
        job = _job(DataTask(dataset=name, source=source, image_folder=folder, place=place), ())
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
    images = held(cell.data, "test", place.data)
    # The number of shards depends on all images, not on those left, so that a shard keeps its name.
    parts = min(shards or 1, max(len(spec.indices(images)) for spec in cell.evals))
    for shard in range(parts):
        task = EvaluateTask(cell=cell, shard=shard, shards=parts, **_ranks(cell, shards), place=place)
        yield _job(task, records)


def _ranks(cell: Cell, shards: int | None) -> dict[str, int]:
    """Ranks and nodes of a shard: one of each if the work is split into shards, else those of the cell."""
    return {"ranks": 1, "nodes": 1} if shards else {"ranks": cell.ranks, "nodes": cell.nodes}


def _timing(manifest: Manifest, place: JobPaths) -> Iterator[BenchJob]:
    """Timing jobs, run by run over all studies, so that an interrupted manifest has runs of each study."""
    for run in range(manifest.study_timing.runs):
        for study in manifest.studies:
            task = TimeTask(study=study, number=run, place=place)
            yield _job(task, read(task.records))


def _further_runs(manifest: Manifest, place: JobPaths) -> Iterator[BenchJob]:
    """Runs after the first: those that the precision needs, or all that it may need before the first are complete."""
    from bench.results.precision import precision  # imports scipy, which other manifests do not need

    needed = {study.id: precision(study, place.runs).needed for study in manifest.studies}
    for run in range(manifest.study_timing.runs, manifest.study_timing.most_runs):
        for study in manifest.studies:
            if run < needed[study.id]:
                task = TimeTask(study=study, number=run, place=place)
                yield _job(task, read(task.records))


def cell_labels(jobs: Iterable[BenchJob]) -> dict[str, str]:
    """Labels of the jobs' cells by task key, without those that the key already contains."""
    cells = {job.task.key: job.task.label_cell for job in jobs}
    return labels_beside_ids({key: cell for key, cell in cells.items() if cell})


def pluralize(jobs: int) -> str:
    """A number of jobs in words."""
    return f"{jobs} job{'s' * (jobs != 1)}"
