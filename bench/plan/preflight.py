"""What must be there before anything is queued: images, weights from elsewhere, a folder to write to, the device."""

import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from bench.cell import Weights
from bench.command import warnings_as_notes
from bench.manifest.manifest import Manifest
from bench.plan.waves import BenchJob
from crt.data import DATASETS
from crt.data.beton_file import ensure
from crt.text import printable


def check_data(manifest: Manifest, data: Path, sources: Collection[str], dry: bool) -> None:
    """ValueError, or where `dry` a warning, of a dataset that is not there and that no job makes from `sources`.

    Digits are written on first use: so this comes after what only looks.
    """
    needed = {(one.dataset, "train") for cell in manifest.cells for one in (cell, *cell.lineage)}
    needed |= {(cell.dataset, "test") for cell in manifest.cells if cell.evals and not manifest.timing}
    for dataset, split in sorted(needed):
        if dataset in sources or (dry and dataset == "digits"):
            continue
        try:
            ensure(DATASETS[dataset], split, data)
        except ValueError as error:
            if not dry:
                raise
            print(f"warning: {printable(str(error))}", file=sys.stderr)


def check_weights(manifest: Manifest, runs: Path) -> None:
    """ValueError where a teacher from elsewhere does not fit its network."""
    students = (one for cell in manifest.cells for one in (cell, *cell.lineage))
    given = {cell.teacher.id: cell.teacher for cell in students if isinstance(cell.teacher, Weights)}
    if given:
        from bench.build.networks import trained

        with warnings_as_notes():
            for teacher in given.values():
                trained(teacher, runs)


def check_device(jobs: Iterable[BenchJob], manifest: Path) -> None:
    """ValueError, with file and cell, where this device or installation cannot train or time as a recipe has it."""
    for job in jobs:
        for cell in job.task.training_cells:
            if cell.recipe.portable:
                continue  # torch, which knows the device, need not be imported
            from crt import distributed
            from crt.training.precision import check

            try:
                check(cell.recipe, distributed.device())
            except ValueError as error:
                raise ValueError(f"{manifest}: {cell.id}: {error}") from None


def check_writable(runs: Path) -> None:
    """ValueError where records and weights cannot be kept; the folder is not made yet."""
    try:
        there = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise ValueError(f"{runs}: {error.strerror} (allowed: a folder for --runs that can be written)") from None
    if shutil.disk_usage(there).free < 2**28:
        raise ValueError(f"{runs}: less than 256 MB free (weights and records would not fit)")
