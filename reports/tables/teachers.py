"""Costs before a cell can train: its teachers, and the robust datasets made from them, each once."""

import math
from collections.abc import Iterable
from functools import cache
from typing import Literal, NamedTuple

import pandas as pd

from bench.cell import Cell, Weights
from bench.manifest.labels import epochs, lineage, name
from bench.results.columns import columns, folders
from bench.results.intervals import nested_ci
from bench.results.measured import Measured
from bench.results.warnings import several
from crt.data import DATASETS

_NAMES = ["dataset", "arch", "method", "student", "needs", "kind", "name", "hours", "hours_unknown"]


class Expense(NamedTuple):
    """One training, or one robust dataset, that a student needs."""

    id: str
    """The same for every student that needs it."""
    kind: Literal["training", "robust dataset", "weights"]
    name: str
    hours: float
    """NaN where they are not known."""
    why: str | None = None
    """Why they are not known."""


@cache
def whole_hours(m: Measured) -> float:
    """Computed: seconds an epoch x epochs, each replay counting as one."""
    return nested_ci(m.seconds).mean * epochs(m.cell) / 3600


def making_hours(m: Measured) -> float:
    """Computed: seconds an image x images of the robust dataset that the cell trains on; 0 where it needs none."""
    return m.making * DATASETS[m.cell.dataset].train_images / 3600


@cache
def expenses(m: Measured) -> tuple[Expense, ...]:
    """All that the cell needs beside its own training, the nearest first, each once."""
    found = [*_dataset(m)]
    for teacher in m.teachers:
        found += [_training(teacher), *_dataset(teacher)]
    last = (m.cell, *m.cell.lineage)[-1].teacher
    if isinstance(last, Weights):
        why = f"what {lineage(last)} cost is not known, for they were trained elsewhere ({last.weights})"
        found.append(Expense(last.id, "weights", lineage(last), math.nan, why))
    return tuple({each.id: each for each in found}.values())


def unknown(m: Measured) -> str | None:
    """Why the hours of what it needs cannot be summed."""
    return "; ".join(each.why for each in expenses(m) if each.why) or None


def outside(measured: list[Measured]) -> list[Measured]:
    """The teachers that the manifest does not ask for itself, each once."""
    own = {id(m) for m in measured}
    return list(dict.fromkeys(t for m in measured for t in m.teachers if id(t) not in own and t.timed))


def teachers(measured: list[Measured]) -> pd.DataFrame:
    """A row for each thing that a cell needs, the nearest first: what it is called, and its hours."""
    rows = [
        {"dataset": m.cell.dataset, "arch": m.cell.arch, "method": name(m.cell), "student": m.id}
        | {"needs": each.id, "kind": each.kind, "name": each.name, "hours": each.hours}
        | {"hours_unknown": each.why, "folder": str(m.folder)}
        for m in measured
        for each in expenses(m)
    ]
    return pd.DataFrame(rows, columns=columns(_NAMES, measured))


def notes(measured: list[Measured]) -> list[str]:
    """Notes on hours with teachers: which are missing, and what others are computed from."""
    apart = len(folders(measured)) > 1
    missing: dict[str, list[str]] = {}
    others: dict[str, None] = {}
    for m in measured:
        if not m.timed:
            continue
        for each in expenses(m):
            if each.why:
                where = f" in {m.folder}" if apart else ""
                missing.setdefault(each.why, []).append(f"{_called(m.cell)}{where}")
        others |= dict.fromkeys(line for teacher in m.teachers if teacher.timed for line in _odd(m, teacher))
    return [f"No hours with teacher of {several(cells)}: {why}." for why, cells in missing.items()] + list(others)


def _odd(m: Measured, teacher: Measured) -> Iterable[str]:
    """In what the hours of a teacher are not like those of a student."""
    whose, seen = _called(teacher.cell), len(teacher.losses)
    if teacher.study is None:
        if seen < teacher.cell.recipe.epochs:
            share = f"{seen} of {teacher.cell.recipe.epochs} epochs"
            yield f"Hours with teacher: {whose} has trained {share}, and its hours are computed from these."
        if m.study:
            yield f"Hours with teacher: those of {whose} are from its training, for no study here times it."
    mine, theirs = (sorted({f"{start.device} ({start.cpu})" for start in each.starts}) for each in (m, teacher))
    if mine != theirs:
        where = f"{whose} on {' and '.join(theirs)}, students on {' and '.join(mine)}"
        yield f"Hours with teacher add times of unlike machines: {where}."


def _training(teacher: Measured) -> Expense:
    cell, hours = teacher.cell, whole_hours(teacher)
    why = None
    if math.isnan(hours):
        what = "no epoch was timed but warm-up" if teacher.runs else "there is no record"
        why = f"{what} of {_called(cell)} ({cell.id}) in {teacher.folder}"
    return Expense(teacher.id, "training", _called(cell), hours, why)


def _dataset(m: Measured) -> Iterable[Expense]:
    """The robust dataset that an RDT cell trains on; students of one teacher share it."""
    if m.cell.robust:
        hours, what = making_hours(m), f"robust dataset of {_called(m.cell.teacher)}"
        where = f"{m.cell.teacher.id}/{m.cell.robust}"
        why = f"no record says how long the {what} ({where}) in {m.folder} took" if math.isnan(hours) else None
        yield Expense(where, "robust dataset", what, hours, why)


def _called(cell: Cell | Weights) -> str:
    """The network without its teachers."""
    return lineage(cell) if isinstance(cell, Weights) else f"{cell.arch} {name(cell)}"
