"""Which two cells a report sets side by side, and what it calls them."""

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Literal

import pandas as pd

from bench.cells import Cell
from bench.tables import Manifest
from reports.tables import epochs, lineage, name
from reports.verdicts import written

RULE = (
    "Of factors, means and differences, the pairs shown are of two methods on one architecture, of which one is the"
    " baseline or has a teacher, and of students and their teachers, by the first evaluation at the threat's eps; the"
    " CSV has all, but none of two seeds."
)


def comparable(one: Cell, other: Cell) -> bool:
    """Whether the two are of one seed, or one learned from the other: repetitions are not compared one by one."""
    return one.seed == other.seed or other in one.lineage or one in other.lineage


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
    worth = frame.get("couple") != "other"
    return frame[worth] if not frame.empty and worth.any() else frame


def called(cell: Cell, cells: Sequence[Cell]) -> str:
    """The method and, where other cells of its architecture are called so, too, what tells them apart."""
    mine = name(cell)
    alike = [one for one in cells if one.arch == cell.arch and name(one) == mine]
    return ", ".join([mine, *compress(words(cell), varying(map(words, alike)))])


def introduced(cell: Cell, cells: Sequence[Cell]) -> str:
    """What it is called, and always whom it learned from."""
    text, teacher = called(cell, cells), lineage(cell.teacher)
    return text if teacher is None or f"from {teacher}" in text else f"{text} from {teacher}"


def varying(rows: Iterable[Sequence]) -> list[bool]:
    """In which places the rows differ."""
    return [len(set(column)) > 1 for column in zip(*rows, strict=True)]


def words(cell: Cell) -> tuple[str, ...]:
    """What may tell cells of one architecture and method apart; the first is of the teacher."""
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
