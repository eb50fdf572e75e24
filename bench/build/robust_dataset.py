"""Robust dataset of an RDT cell: its folder, and the chunks in which it is generated."""

import dataclasses
from pathlib import Path

from bench.cell import Cell
from crt.data import Dataset

CHUNK = 500
"""Images generated at once: the authors' batch size, and the most that a killed job loses."""


def folder(cell: Cell, runs: Path) -> Path:
    """Folder of the robust dataset, next to the teacher's weights; ValueError for a cell that trains on none."""
    if cell.robust is None:
        raise ValueError(f"{cell.id}: trains on no robust dataset")
    return runs / cell.required_teacher.id / cell.robust


def dataset(cell: Cell) -> Dataset:
    """The robust dataset: as many images as the cell trains on, without published statistics."""
    whole = cell.data
    return dataclasses.replace(whole, train_images=cell.images or whole.train_images, measured=None)


def chunks(cell: Cell) -> range:
    """Chunks, each given by the number of its first image."""
    return range(0, dataset(cell).train_images, CHUNK)
