"""Which two cells a report sets side by side, and what it calls them."""

from collections.abc import Sequence
from itertools import compress
from typing import Literal

import pandas as pd

from bench.cells import Cell, Manifest
from reports.tables import epochs, lineage, name
from reports.verdicts import written

RULE = (
    "Of factors, means and differences, the pairs shown are of two methods on one architecture, of which one is the"
    " baseline or has a teacher, and of students and their teachers; the CSV has all."
)


def couple(manifest: Manifest, one: Cell, other: Cell) -> Literal["baseline", "teacher", "other"]:
    """What makes the two worth a row: a baseline, a teacher, or nothing that papers compare."""
    if one.id in {cell.id for cell in other.lineage} or other.id in {cell.id for cell in one.lineage}:
        return "teacher"
    if one.arch != other.arch or (one.method.name, one.loop) == (other.method.name, other.loop):
        return "other"
    if manifest.is_baseline(one) or manifest.is_baseline(other):
        return "baseline"
    return "teacher" if one.teacher or other.teacher else "other"


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that are worth showing; all, where none is worth more than the others."""
    worth = frame["couple"] != "other"
    return frame[worth] if worth.any() else frame


def called(cell: Cell, cells: Sequence[Cell]) -> str:
    """The method and, where other cells of its architecture are called so, too, what tells them apart."""
    alike = [one for one in cells if one.arch == cell.arch and name(one) == name(cell)]
    varies = [len(set(words)) > 1 for words in zip(*map(_words, alike), strict=True)]
    return ", ".join([name(cell), *compress(_words(cell), varies)])


def _words(cell: Cell) -> tuple[str, ...]:
    teacher, recipe = lineage(cell.teacher), cell.recipe
    return (
        f"from {teacher}" if teacher else "untaught",
        f"{epochs(cell)} epochs",
        f"batch {recipe.batch_size}",
        recipe.precision,
        f"sigma {cell.threat.sigma:g}",
        f"{cell.threat.norm} eps {written(cell.threat.eps)}",
        f"ranks {cell.ranks}",
    )
