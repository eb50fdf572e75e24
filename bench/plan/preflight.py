"""Checks before anything is queued: images, weights from elsewhere, a writable folder, the device, and Slurm."""

import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable
from importlib.util import find_spec
from pathlib import Path

from bench.cell import Weights
from bench.command import warnings_as_notes
from bench.manifest.manifest import Manifest
from bench.plan.waves import BenchJob
from crt.data import Dataset
from crt.text import CONTROL, printable
from launchers import states


def check_data(manifest: Manifest, data: Path, sources: Collection[str], dry: bool) -> None:
    """Raise ValueError, or print a warning if `dry`, for a missing dataset that no job makes from `sources`.

    The digits dataset is written on first use, so this check comes after those that write nothing.
    """
    needed = {(network.data, "train") for cell in manifest.cells for network in (cell, *cell.ancestors)}
    needed |= {(cell.data, "test") for cell in manifest.cells if cell.evals and not manifest.timing}
    for dataset, split in sorted(needed, key=lambda each: (each[0].name, each[1])):
        if dataset.source or dataset.name in sources or (dry and dataset.name == "digits"):
            continue
        try:
            _check_split(dataset, split, data)
        except ValueError as error:
            if not dry:
                raise
            print(f"warning: {printable(str(error))}", file=sys.stderr)


def _check_split(dataset: Dataset, split: str, data: Path) -> None:
    if dataset.name != "digits":
        dataset.existing(split, data)
    from crt.data.beton_file import ensure  # imports numpy, which a missing file does not need

    ensure(dataset, split, data)


def check_weights(manifest: Manifest, runs: Path) -> None:
    """Raise ValueError if weights that were trained elsewhere do not fit the network of a teacher, or of `init`."""
    users = list({each.id: each for cell in manifest.cells for each in (cell, *cell.ancestors)}.values())
    teachers = {cell.teacher.id: cell.teacher for cell in users if isinstance(cell.teacher, Weights)}
    begun = [cell for cell in users if isinstance(cell.init, Weights)]
    if teachers or begun:
        from bench.build.networks import initial, trained

        with warnings_as_notes():
            for teacher in teachers.values():
                trained(teacher, runs)
            for cell in begun:
                initial(cell, runs)


def check_device(jobs: Iterable[BenchJob], manifest: Path) -> None:
    """Raise ValueError, with file and cell, if this device or installation lacks what a recipe needs."""
    for job in jobs:
        for cell in job.task.training_cells:
            if cell.recipe.portable:
                continue  # runs on every device: torch need not be imported
            from crt import distributed
            from crt.training.precision import check

            try:
                check(cell.recipe, distributed.device())
            except ValueError as error:
                raise ValueError(f"{manifest}: {cell.id}: {error}") from None


def check_writable(runs: Path) -> None:
    """Raise ValueError if records and weights cannot be written. The folder is not created yet."""
    existing = _nearest(runs, "--runs")
    if shutil.disk_usage(existing).free < 2**28:
        raise ValueError(f"{runs}: less than 256 MB free (weights and records would not fit)")


def check_tensorboard(folder: Path, manifest: Manifest) -> None:
    """Raise ValueError if there are no events to write, TensorBoard is not installed, or the folder is not writable.

    The folder is not created yet.
    """
    if not manifest.trained:
        raise ValueError(
            f"--tensorboard {folder}: {manifest.name} trains no cell (allowed: with one that trains cells)"
        )
    spec = find_spec("tensorboard")
    # A folder of this name in the current one is found as a package without origin.
    if not spec or not spec.origin:
        raise ValueError(
            f"--tensorboard {folder}: needs a package that is not installed (pip install tensorboard, here and on the"
            " nodes that train)"
        )
    _nearest(folder, "--tensorboard")


def _nearest(folder: Path, option: str) -> Path:
    """The folder, or the nearest one above it that exists; ValueError, which names the option, if not writable."""
    try:
        existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ValueError(f"{folder}: {error.strerror} (allowed: a folder for {option} that can be written)") from None
    return existing


def check_slurm(profile: Path | None) -> None:
    """Raise ValueError where this machine cannot submit to Slurm."""
    try:
        states.can_submit()
    except ValueError as error:
        raise ValueError(f"{error} (allowed: --launcher local{', without --profile' if profile else ''})") from None


def check_paths(runs: Path, data: Path) -> None:
    """Raise ValueError for a path that Slurm would change, or that would break a line of the batch script."""
    # Slurm replaces patterns after a % in the path of a log, unless the path has a backslash.
    for option, folder, forbidden in (
        ("--runs", runs, re.search(rf"[%\\]|{CONTROL.pattern}", str(runs.absolute()))),
        ("--data", data, CONTROL.search(str(data.absolute()))),
    ):
        if forbidden:
            allowed = "no control characters" + (", no % and no backslash" if option == "--runs" else "")
            raise ValueError(f"{option} {folder}: {forbidden[0]!r} in the path (allowed with Slurm: {allowed})")
