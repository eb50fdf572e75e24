"""Expenses of a cell besides its own training: trainings of ancestors, robust datasets and validations, each once."""

import math
from collections.abc import Iterable
from functools import cache
from typing import Literal, NamedTuple

from bench.cell import Cell, Weights
from bench.manifest.labels import choice, epochs, lineage, name
from bench.results.intervals import nested_ci
from bench.results.measured import Measured


class Expense(NamedTuple):
    """A training, a robust dataset, a validation, or weights that a cell needs."""

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
        needed += [_training(teacher, m.cell), *_validation(teacher), *_dataset(teacher)]
    for weights in m.cell.outside:
        label = network_label(weights)
        why = f"what {label} cost is not known, for they were trained elsewhere ({weights.weights})"
        needed.append(Expense(weights.id, "weights", label, math.nan, why))
    return tuple({each.id: each for each in needed}.values())


def _training(ancestor: Measured, cell: Cell) -> Expense:
    """The training of an ancestor of the cell; a candidate of the cell is named by its settings, too."""
    hours, label = whole_hours(ancestor), network_label(ancestor.cell)
    if any(ancestor.id == candidate.id for candidate in cell.candidates):
        label += f", tried with {choice(ancestor.cell, cell)}"
    why = None
    if math.isnan(hours):
        what = "no epoch was timed but warm-up" if ancestor.runs else "there is no record"
        why = f"{what} of {label} ({ancestor.id}) in {ancestor.folder}"
    return Expense(ancestor.id, "training", label, hours, why)


def _dataset(m: Measured) -> Iterable[Expense]:
    """Yield the robust dataset that the cell trains on, if any; students of one teacher share it."""
    teacher = m.cell.teacher
    if m.cell.robust and teacher:
        hours, label = making_hours(m), f"robust dataset of {network_label(teacher)}"
        place = f"{teacher.id}/{m.cell.robust}"
        why = f"no record says how long the {label} ({place}) in {m.folder} took" if math.isnan(hours) else None
        yield Expense(place, "robust dataset", label, hours, why)


def _validation(m: Measured) -> Iterable[Expense]:
    """Yield the evaluations on held-out images, by which the cell's epoch is chosen, if there are any."""
    if not m.cell.held_out:
        return
    label, seconds = f"validation of {network_label(m.cell)}", [point.seconds for point in m.curves.values()]
    known = [each for each in seconds if each is not None]
    hours = sum(known) / 3600 if known and len(known) == len(seconds) else math.nan
    why = f"no record says how long the {label} in {m.folder} took" if math.isnan(hours) else None
    yield Expense(f"{m.id}/validation", "validation", label, hours, why)


def network_label(cell: Cell | Weights) -> str:
    """Name of the network without its teachers."""
    return (lineage(cell) or cell.id) if isinstance(cell, Weights) else f"{cell.arch} {name(cell)}"
