"""Cells that differ in one numeric argument of their method: what the argument is worth."""

import json
from itertools import combinations
from numbers import Real

import pandas as pd

from bench.cells import Cell
from reports.load import Measured
from reports.tables import columns, epochs, lineage, named
from reports.verdicts import bought

_NAMES = (
    "dataset,arch,family,method,teacher,argument,value,clean,clean_low,clean_high,at_eps,at_eps_low,at_eps_high,at_eps_by"
)


def sweeps(measured: list[Measured]) -> pd.DataFrame:
    """A row a cell that has a twin but for one numeric argument; `method` is what the twins have in common."""
    rows, seen = [], set()
    for one, other in combinations(measured, 2):
        key = _differ(one, other)
        for m in (one, other) if key else ():
            if (m.cell.id, str(m.folder), key) not in seen:
                seen.add((m.cell.id, str(m.folder), key))
                rows.append(_row(m, key))
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _differ(one: Measured, other: Measured) -> str | None:
    """The argument in which alone the two differ, where it is a number."""
    if one.folder != other.folder or _rest(one.cell) != _rest(other.cell):
        return None
    mine, theirs = one.cell.method.args, other.cell.method.args
    keys = [key for key in mine if mine[key] != theirs[key]]
    numeric = all(isinstance(args[key], Real) and not isinstance(args[key], bool) for args in (mine, theirs) for key in keys)
    return keys[0] if len(keys) == 1 and numeric else None


def _rest(cell: Cell) -> dict:
    """All that determines the cell's weights but its method's arguments."""
    rest = cell.model_dump(mode="json", exclude={"evals", "paper", "teacher", "method", "monitor"})
    return rest | {"method": cell.method.name, "teacher": cell.teacher and cell.teacher.id}


def _row(m: Measured, key: str) -> dict:
    cell, worth = m.cell, bought(m)
    others = {k: v for k, v in cell.method.args.items() if k != key and k in getattr(type(cell.unbound), "named", ())}
    method = cell.method.name + (f"({', '.join(f'{k}={v}' for k, v in others.items())})" if others else "")
    row = {"dataset": cell.dataset, "arch": cell.arch, "family": cell.method.name, "method": method}
    row |= {"teacher": lineage(cell.teacher), "argument": key, "value": float(cell.method.args[key])}
    row |= named("clean", worth.clean) | named("at_eps", worth.standing)
    return row | {"at_eps_by": worth.by, "folder": str(m.folder)}
