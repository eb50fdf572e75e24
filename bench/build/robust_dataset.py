"""The robust dataset of an RDT cell: where it lies, and the chunks that it is made in."""

import dataclasses
from pathlib import Path

from bench.cell import Cell
from crt.data import DATASETS, Dataset

CHUNK = 500
"""Images made at once: the authors' batch, and what a killed job loses at most."""


def folder(cell: Cell, runs: Path) -> Path:
    """Folder of the dataset that an RDT cell trains on, beside the weights that it comes from."""
    return runs / cell.teacher.id / cell.robust


def dataset(cell: Cell) -> Dataset:
    """As many images as the cell trains on, whose statistics nobody has published."""
    whole = DATASETS[cell.dataset]
    return dataclasses.replace(whole, train_images=cell.images or whole.train_images, measured=None)


def chunks(cell: Cell) -> range:
    """Each chunk by the number of its first image."""
    return range(0, dataset(cell).train_images, CHUNK)
