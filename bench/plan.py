"""What a manifest asks for, as jobs in waves, each with how far it is."""

from collections.abc import Iterable
from pathlib import Path

from bench.attempt import Place
from bench.cells import Cell
from bench.chunks import CHUNK, dataset, folder
from bench.jobs import run_cell, run_judge, run_prepare, run_robustify, run_study
from bench.records import End, Epoch, Verdict, read, read_all
from bench.tables import Manifest
from crt.data import DATASETS
from crt.data.beton_file import held
from launchers.job import Job, Wave


def waves(
    manifest: Manifest, place: Place, shards: int | None = None, sources: dict[str, Path] | None = None
) -> list[Wave]:
    """Every job of the manifest, finished ones marked: datasets first, then teachers before students.

    What judges a wave's networks waits for that wave alone, and no training waits for it; a timing study waits for no
    network. `shards` are the jobs that a cell's judging is spread over, each of one rank; without it, one job of the
    cell's own ranks. `sources` names the folders that missing datasets are written from.
    """
    found: list[Wave] = []
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


def _add(found: list[Wave], name: str, jobs: Iterable[Job], after: int | None) -> None:
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


def _preparing(manifest: Manifest, place: Place, sources: dict[str, Path]) -> Iterable[Job]:
    for name in sorted({cell.dataset for cell in manifest.cells}):
        dataset = DATASETS[name]
        missing = [split for split in ("train", "test") if not dataset.path(split, place.data).exists()]
        if missing and name in sources:
            yield Job(
                name=f"data/{name}",
                ranks=1,
                nodes=1,
                function=run_prepare,
                args=(name, sources[name], place),
                records=place.data / f"{name}.jsonl",
                timed=False,
            )


def _train(cell: Cell, place: Place) -> Job:
    folder = place.runs / cell.id
    epochs = {r.epoch for r in read(folder / "train.jsonl") if isinstance(r, Epoch)}
    return Job(
        name=f"train/{cell.id}",
        ranks=cell.ranks,
        nodes=cell.nodes,
        function=run_cell,
        args=(cell, place),
        records=folder / "train.jsonl",
        steps=(len(epochs), cell.recipe.epochs),
        done=(folder / "model.pt").exists(),
    )


def _robustify(cell: Cell, place: Place, shards: int | None) -> Iterable[Job]:
    home, ranks = folder(cell, place.runs), 1 if shards else cell.ranks
    chunks = [f"part-{first}.npz" for first in range(0, dataset(cell).train_images, CHUNK)]
    parts = min(shards or 1, len(chunks))
    for shard in range(parts):
        mine = [chunk for rank in range(ranks) for chunk in chunks[shard * ranks + rank :: parts * ranks]]
        yield Job(
            name=f"robust/{cell.teacher.id}/{cell.robust}/{shard}of{parts}",
            ranks=ranks,
            nodes=1 if shards else cell.nodes,
            function=run_robustify,
            args=(cell, shard, parts, place),
            records=home / f"{shard * ranks}of{parts * ranks}.jsonl",
            steps=(sum((home / chunk).exists() for chunk in mine), len(mine)),
            done=(home / "made.json").exists(),
        )


def _judging(cell: Cell, place: Place, shards: int | None) -> Iterable[Job]:
    folder = place.runs / cell.id
    judged = {(r.eval, r.index) for r in read_all(folder) if isinstance(r, Verdict)}
    images = held(DATASETS[cell.dataset], "test", place.data)
    # The number of shards depends on what is asked, not on what is left, so that a shard keeps its name.
    parts = min(shards or 1, max(len(spec.indices(images)) for spec in cell.evals))
    for shard in range(parts):
        asked = [(spec.id, index) for spec in cell.evals for index in spec.indices(images)[shard::parts]]
        done = sum(question in judged for question in asked)
        ranks = 1 if shards else cell.ranks
        yield Job(
            name=f"judge/{cell.id}/{cell.questions}/{shard}of{parts}",
            ranks=ranks,
            nodes=1 if shards else cell.nodes,
            function=run_judge,
            args=(cell, shard, parts, place),
            records=folder / f"judge-{cell.questions}-{shard * ranks}of{parts * ranks}.jsonl",
            timed=False,
            steps=(done, len(asked)),
            done=done == len(asked) and (folder / "model.pt").exists(),
        )


def _timing(manifest: Manifest, place: Place) -> Iterable[Job]:
    """Run by run over the studies, so that what is cut short has some of each."""
    for run in range(manifest.timing.runs):
        for study in manifest.studies:
            file = place.runs / study.id / f"run{run}" / "time.jsonl"
            records = read(file)
            yield Job(
                name=f"time/{study.id}/run{run}",
                ranks=study.arms[0].ranks,
                nodes=study.arms[0].nodes,
                function=run_study,
                args=(study, run, place),
                records=file,
                steps=(sum(isinstance(r, Epoch) for r in records), len(study.arms) * (1 + study.timing.rounds)),
                done=any(isinstance(r, End) for r in records),
            )


def counted(jobs: int) -> str:
    """So many jobs, in words."""
    return f"{jobs} job{'s' * (jobs != 1)}"
