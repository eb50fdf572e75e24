"""Which two cells a report sets side by side."""

from collections.abc import Iterable, Iterator
from itertools import chain, combinations
from typing import Literal

import pandas as pd

from bench.manifest.manifest import Manifest
from bench.results.measured import Measured

RULE = (
    "Factors, means and differences show two methods on one architecture where one is the baseline or has a teacher,"
    " and students with their teachers, by the first evaluation at the threat's eps. The CSV has every pair with equal"
    " seeds."
)


def comparable_pairs(measured: Iterable[Measured]) -> Iterator[tuple[Measured, Measured]]:
    """Every two of one seed, then those of two of which one learned from the other.

    Repetitions are not compared one by one.
    """
    seeds: dict[int, list[Measured]] = {}
    for m in measured:
        seeds.setdefault(m.cell.seed, []).append(m)
    for alike in seeds.values():
        yield from combinations(alike, 2)
    for student in chain.from_iterable(seeds.values()):
        for teacher in student.cell.lineage:
            if teacher.seed != student.cell.seed:
                yield from ((student, m) for m in seeds.get(teacher.seed, ()) if m.id == teacher.id)


def pair_kind(manifest: Manifest, first: Measured, second: Measured) -> Literal["baseline", "teacher", "other"]:
    """What makes the two worth a row: a baseline, a teacher, or nothing that papers compare."""
    one, other = first.cell, second.cell
    if first.id in {cell.id for cell in other.lineage} or second.id in {cell.id for cell in one.lineage}:
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
