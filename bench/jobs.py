"""The work of jobs, as functions that a plan can name without importing torch."""

from pathlib import Path

from bench.attempt import Place
from bench.cells import Cell
from bench.tables import Study


def run_cell(cell: Cell, place: Place) -> None:
    """Train a cell to its last epoch."""
    from bench import train

    train.run_cell(cell, place)


def run_study(study: Study, run: int, place: Place) -> None:
    """Time the arms of a study in this process."""
    from bench import study as studies

    studies.run_study(study, run, place)


def run_judge(cell: Cell, shard: int, shards: int, place: Place) -> None:
    """Evaluate a trained cell on every `shards`-th test image from `shard` on."""
    from bench import judge

    judge.run_judge(cell, shard, shards, place)


def run_robustify(cell: Cell, shard: int, shards: int, place: Place) -> None:
    """Make every `shards`-th chunk of an RDT cell's images from `shard` on."""
    from bench import robust

    robust.run_robustify(cell, shard, shards, place)


def run_prepare(name: str, source: Path, place: Place) -> None:
    """Write a dataset's .beton files from the images in `source`."""
    from bench import prepare

    prepare.run_prepare(name, source, place)
