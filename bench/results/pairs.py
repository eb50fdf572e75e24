"""Pairs of cells that a report compares."""

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
    """Yield all pairs of one seed, then pairs of a student and its teacher of another seed.

    Other pairs of two seeds are repetitions, which are not compared one by one.
    """
    seeds: dict[int, list[Measured]] = {}
    for m in measured:
        seeds.setdefault(m.cell.seed, []).append(m)
    for group in seeds.values():
        yield from combinations(group, 2)
    for student in chain.from_iterable(seeds.values()):
        for teacher in student.cell.lineage:
            if teacher.seed != student.cell.seed:
                yield from ((student, m) for m in seeds.get(teacher.seed, ()) if m.id == teacher.id)


def pair_kind(manifest: Manifest, first: Measured, second: Measured) -> Literal["baseline", "teacher", "other"]:
    """Kind of comparison: with a baseline, with a teacher or of taught methods, or one that papers do not make."""
    a, b = first.cell, second.cell
    if first.id in {cell.id for cell in b.lineage} or second.id in {cell.id for cell in a.lineage}:
        return "teacher"
    if a.arch != b.arch or (a.method.name, a.loop) == (b.method.name, b.loop):
        return "other"
    if manifest.is_baseline(a) or manifest.is_baseline(b):
        return "baseline"
    return "teacher" if a.teacher or b.teacher else "other"


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with a comparison that papers make; all rows where there is none."""
    if frame.empty:
        return frame
    relevant = frame["couple"] != "other"
    return frame[relevant] if relevant.any() else frame
