"""Cells that differ in one numeric argument of their method: what the argument is worth."""

from collections.abc import Iterator
from itertools import combinations, compress
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from bench.cell import Cell, digest
from bench.manifest.labels import lineage, varying, words
from bench.results.columns import columns, named
from bench.results.measured import Measured
from bench.results.robustness import accuracy_at_eps

_NAMES = (
    "dataset,arch,family,method,teacher,argument,value,clean,clean_low,clean_high,at_eps,at_eps_low,at_eps_high,"
    "at_eps_by"
)


def sweeps(measured: list[Measured]) -> pd.DataFrame:
    """A row a cell that has a twin but for one numeric argument; `method` is what twins have in common."""
    found: dict[tuple[str, str], list[Measured]] = {}
    for one, other in _twins(measured):
        argument = _differ(one.cell.method.args, other.cell.method.args)
        if argument:
            swept = found.setdefault((one.cell.method.name, argument), [])
            swept += [m for m in (one, other) if m not in swept]
    rows = []
    for (family, argument), swept in found.items():
        common = [_common(m.cell, argument) for m in swept]
        varies = varying(common)
        for m, told in zip(swept, common, strict=True):
            method = ", ".join([family, *compress(told, varies)])
            rows.append(_row(m) | {"family": family, "method": method, "argument": argument})
            rows[-1]["value"] = float(m.cell.method.args[argument])
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _twins(measured: list[Measured]) -> Iterator[tuple[Measured, Measured]]:
    """Every two that nothing can tell apart but their methods' arguments."""
    groups: dict[tuple[Path, str], list[Measured]] = {}
    for m in measured:
        groups.setdefault((m.folder, digest(_rest(m.cell))), []).append(m)
    for group in groups.values():
        yield from combinations(group, 2)


def _differ(mine: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """The argument in which alone the two differ, where it is a number."""
    keys = [key for key in mine if mine[key] != theirs[key]]
    return keys[0] if len(keys) == 1 and _number(mine[keys[0]]) and _number(theirs[keys[0]]) else None


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _rest(cell: Cell) -> dict:
    """All that determines the cell's weights but its method's arguments."""
    rest = cell.model_dump(mode="json", exclude={"evals", "paper", "teacher", "method", "monitor"})
    return rest | {"method": cell.method.name, "teacher": cell.teacher and cell.teacher.id}


def _common(cell: Cell, argument: str) -> tuple[str, ...]:
    """What may tell one line of a sweep from another, beside architecture and teacher."""
    return *(f"{key}={value}" for key, value in cell.method.args.items() if key != argument), *words(cell)[1:]


def _row(m: Measured) -> dict:
    worth = accuracy_at_eps(m)
    row = {"dataset": m.cell.dataset, "arch": m.cell.arch, "teacher": lineage(m.cell.teacher), "folder": str(m.folder)}
    return row | named("clean", worth.clean) | named("at_eps", worth.standing) | {"at_eps_by": worth.by}
