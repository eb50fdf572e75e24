"""The sentence on what students cost together with their teachers."""

import math

from bench.results.contenders import Contender, Setting
from bench.results.expenses import expenses, whole_hours
from reports.render.phrases import NAMED, listed, span


def taught(compared: list[Setting]) -> str:
    """Cost relative to the baseline of each student with its teachers and the datasets made from them.

    No interval: teachers' and students' times come from different runs.
    """
    found: dict[str, list[float]] = {}
    unknown: dict[str, None] = {}
    for setting in compared:
        base = setting.baseline
        for each in setting.contenders:
            if base is None or not each.timed.cell.parents or math.isnan(setting.cost(each, base).mean):
                continue
            whole = setting.cost(each, base).mean * _surcharge(each)
            if math.isnan(whole):
                unknown[each.label] = None
            else:
                found.setdefault(each.label, []).append(whole)
    students = [label for label in found if label not in unknown]
    parts = [f"{label} {span(found[label])}" for label in students[:NAMED]]
    parts += [f"{len(students) - NAMED} more in the tables"] if len(students) > NAMED else []
    parts += [f"unknown for {listed(list(unknown), 'students', '; ')}"] if unknown else []
    unit = next((setting.baseline.label for setting in compared if setting.baseline), "")
    tuned = any(each.timed.cell.candidates for setting in compared for each in setting.contenders)
    what = f"of teachers{' and of recipes that were tried' * tuned}"
    opening = f"These times leave out the training {what}; with it, relative to {unit}"
    return f"{opening}: {'; '.join(parts)}." if parts else ""


def _surcharge(student: Contender) -> float:
    """Hours of the student and of everything that it needs first, relative to its own; NaN where any is unknown."""
    own = whole_hours(student.timed)
    return (own + sum(each.hours for each in expenses(student.timed))) / own
