"""What is left to do, in what order."""

from collections.abc import Iterable
from pathlib import Path

from bench.cells import Cell, Manifest, Study
from bench.records import End, Verdict, read_all
from crt.data import DATASETS


def plan(manifest: Manifest, runs: Path) -> list[list[Cell]]:
    """Waves of unfinished cells, teachers first: what is in a wave may run at once."""
    waves: dict[int, dict[str, Cell]] = {}
    for cell in manifest.cells:
        wanted = [cell, *lineage(cell)] if not finished(cell, runs) else []
        for one in wanted:
            if not finished(one, runs):
                waves.setdefault(one.wave, {}).setdefault(one.id, one)
    for cell in manifest.cells:
        # The manifest's own cell stands for a teacher of the same id: it has the evaluations.
        if cell.id in waves.get(cell.wave, {}):
            waves[cell.wave][cell.id] = cell
    return [list(waves[wave].values()) for wave in sorted(waves)]


def timings(manifest: Manifest, runs: Path) -> list[tuple[Study, int]]:
    """The runs of studies that have not ended, round by round over the studies."""
    return [
        (study, run)
        for run in range(manifest.timing.runs)
        for study in manifest.studies
        if not any(isinstance(record, End) for record in read_all(runs / study.id / f"run{run}"))
    ]


def lineage(cell: Cell) -> Iterable[Cell]:
    """The teachers before a cell, the nearest first."""
    while cell.teacher is not None:
        cell = cell.teacher
        yield cell


def finished(cell: Cell, runs: Path) -> bool:
    """Whether the cell is trained and every image of its evaluations is judged."""
    folder = runs / cell.id
    if not (folder / "model.pt").exists():
        return False
    judged = {(r.eval, r.index) for r in read_all(folder) if isinstance(r, Verdict)}
    images = DATASETS[cell.dataset].test_images
    return all((spec.id, index) in judged for spec in cell.evals for index in spec.indices(images))
