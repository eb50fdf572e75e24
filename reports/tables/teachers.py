"""Hours that a cell needs besides its own training: its ancestors' and those of robust datasets, each once."""

import math
from collections.abc import Iterable
from functools import cache
from typing import Literal, NamedTuple

import pandas as pd

from bench.cell import Cell, Weights
from bench.manifest.labels import epochs, lineage, name
from bench.results.columns import Source, columns, folders
from bench.results.intervals import nested_ci
from bench.results.measured import Measured
from bench.results.warnings import several

_NAMES = ["dataset", "arch", "method", "student", "needs", "kind", "name", "hours", "hours_unknown"]


class Expense(NamedTuple):
    """A training, a robust dataset, or weights that a student needs."""

    id: str
    """Equal for all students that share it."""
    kind: Literal["training", "robust dataset", "validation", "weights"]
    name: str
    hours: float
    """NaN where they are unknown."""
    why: str | None = None
    """Reason why the hours are unknown."""


@cache
def whole_hours(m: Measured) -> float:
    """Hours of the whole training, computed as s/epoch x epochs; each replay counts as an epoch."""
    return nested_ci(m.seconds).mean * epochs(m.cell) / 3600


def making_hours(m: Measured) -> float:
    """Hours to make the cell's robust dataset, computed as seconds per image x images; 0 where it needs none."""
    return m.making * m.cell.data.train_images / 3600


@cache
def expenses(m: Measured) -> tuple[Expense, ...]:
    """The cell's expenses besides its own training, nearest first, each once."""
    needed = [*_dataset(m), *_validation(m)]
    for teacher in m.teachers:
        needed += [_training(teacher), *_validation(teacher), *_dataset(teacher)]
    for weights in m.cell.outside:
        label = _label(weights)
        why = f"what {label} cost is not known, for they were trained elsewhere ({weights.weights})"
        needed.append(Expense(weights.id, "weights", label, math.nan, why))
    return tuple({each.id: each for each in needed}.values())


def unknown(m: Measured) -> str | None:
    """Reasons why the hours of the cell's expenses are unknown, or None."""
    return "; ".join(each.why for each in expenses(m) if each.why) or None


def outside(measured: list[Measured]) -> list[Measured]:
    """The timed teachers that are no cells of the manifest, each once."""
    own = {id(m) for m in measured}
    return list(dict.fromkeys(t for m in measured for t in m.teachers if id(t) not in own and t.timed))


def teachers(measured: list[Measured]) -> pd.DataFrame:
    """A row for each expense of each cell, nearest first: its name and its hours."""
    rows = [
        {"dataset": m.cell.dataset, "arch": m.cell.arch, "method": name(m.cell), "student": m.id}
        | {"needs": each.id, "kind": each.kind, "name": each.name, "hours": each.hours}
        | {"hours_unknown": each.why, "folder": str(m.folder), "source": Source(m)}
        for m in measured
        for each in expenses(m)
    ]
    return pd.DataFrame(rows, columns=columns(_NAMES, measured))


def notes(measured: list[Measured]) -> list[str]:
    """Notes on hours with teacher: missing ones, and the source of the others."""
    apart = len(folders(measured)) > 1
    missing: dict[str, list[str]] = {}
    sources: dict[str, None] = {}
    for m in measured:
        if not m.timed:
            continue
        for each in expenses(m):
            if each.why:
                where = f" in {m.folder}" if apart else ""
                missing.setdefault(each.why, []).append(f"{_label(m.cell)}{where}")
        sources |= dict.fromkeys(line for teacher in m.teachers if teacher.timed for line in _differences(m, teacher))
    return [f"Hours with teacher are unknown for {several(cells)}: {why}." for why, cells in missing.items()] + list(
        sources
    )


def _differences(m: Measured, teacher: Measured) -> Iterable[str]:
    """Yield the differences between the hours of a teacher and those of its student."""
    label, trained = _label(teacher.cell), len(teacher.losses)
    if teacher.study is None:
        if trained < teacher.cell.recipe.epochs:
            share = f"{trained} of {teacher.cell.recipe.epochs} epochs"
            yield f"Hours with teacher: {label} has trained {share}; its hours are computed from these."
        if m.study:
            yield f"Hours with teacher: those of {label} come from its training; no timing study here includes it."
    own, teachers = (sorted({f"{start.device} ({start.cpu})" for start in each.starts}) for each in (m, teacher))
    if own != teachers:
        where = f"{label} on {' and '.join(teachers)}, students on {' and '.join(own)}"
        yield f"Hours with teacher add times of different machines: {where}."


def _training(teacher: Measured) -> Expense:
    cell, hours = teacher.cell, whole_hours(teacher)
    why = None
    if math.isnan(hours):
        what = "no epoch was timed but warm-up" if teacher.runs else "there is no record"
        why = f"{what} of {_label(cell)} ({cell.id}) in {teacher.folder}"
    return Expense(teacher.id, "training", _label(cell), hours, why)


def _dataset(m: Measured) -> Iterable[Expense]:
    """Yield the robust dataset that the cell trains on, if any; students of one teacher share it."""
    teacher = m.cell.teacher
    if m.cell.robust and teacher:
        hours, label = making_hours(m), f"robust dataset of {_label(teacher)}"
        place = f"{teacher.id}/{m.cell.robust}"
        why = f"no record says how long the {label} ({place}) in {m.folder} took" if math.isnan(hours) else None
        yield Expense(place, "robust dataset", label, hours, why)


def _validation(m: Measured) -> Iterable[Expense]:
    """Yield the evaluations on held-out images, by which the cell's epoch is chosen, if there are any."""
    if not m.cell.held_out:
        return
    label, seconds = f"validation of {_label(m.cell)}", [point.seconds for point in m.curves.values()]
    known = [each for each in seconds if each is not None]
    hours = sum(known) / 3600 if known and len(known) == len(seconds) else math.nan
    why = f"no record says how long the {label} in {m.folder} took" if math.isnan(hours) else None
    yield Expense(f"{m.id}/validation", "validation", label, hours, why)


def _label(cell: Cell | Weights) -> str:
    """Name of the network without its teachers."""
    return (lineage(cell) or cell.id) if isinstance(cell, Weights) else f"{cell.arch} {name(cell)}"
