"""Sweeps: accuracies of cells that differ in one numeric argument of their method."""

from collections.abc import Iterator
from itertools import combinations, compress
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from bench.cell import Cell, digest
from bench.manifest.labels import lineage, varying, words
from bench.results.columns import Source, columns, named
from bench.results.measured import Measured
from bench.results.robustness import accuracy_at_eps

_NAMES = (
    "dataset,arch,family,method,teacher,argument,value,clean,clean_low,clean_high,at_eps,at_eps_low,at_eps_high,"
    "at_eps_by,seed"
)


def sweeps(measured: list[Measured]) -> pd.DataFrame:
    """A row per cell that differs from another in one numeric argument only; `method` is what they share."""
    sweeps: dict[tuple[str, str], list[Measured]] = {}
    for first, second in _twins(measured):
        argument = _differ(first.cell.arguments, second.cell.arguments)
        if argument:
            swept = sweeps.setdefault((first.cell.method.name, argument), [])
            swept += [m for m in (first, second) if m not in swept]
    rows = []
    for (family, argument), swept in sweeps.items():
        common = [_common(m.cell, argument) for m in swept]
        varies = varying(common)
        for m, settings in zip(swept, common, strict=True):
            method = ", ".join([family, *compress(settings, varies)])
            rows.append(_row(m) | {"family": family, "method": method, "argument": argument})
            rows[-1]["value"] = float(m.cell.arguments[argument])
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _twins(measured: list[Measured]) -> Iterator[tuple[Measured, Measured]]:
    """Yield every two cells that are equal except for their methods' arguments."""
    groups: dict[tuple[Path, str], list[Measured]] = {}
    for m in measured:
        groups.setdefault((m.folder, digest(_rest(m.cell))), []).append(m)
    for group in groups.values():
        yield from combinations(group, 2)


def _differ(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """The only argument in which the two differ, if it is a number; else None."""
    keys = [key for key in a if a[key] != b[key]]
    return keys[0] if len(keys) == 1 and _number(a[keys[0]]) and _number(b[keys[0]]) else None


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _rest(cell: Cell) -> dict:
    """The settings that determine the cell's weights, without its method's arguments."""
    rest = cell.model_dump(mode="json", exclude={"evals", "paper", "teacher", "init", "method", "monitor"})
    return rest | {"method": cell.method.name, "parents": [network.id for network in cell.parents]}


def _common(cell: Cell, argument: str) -> tuple[str, ...]:
    """Settings that may distinguish the lines of a sweep, besides architecture and teacher."""
    return *(f"{key}={value}" for key, value in cell.arguments.items() if key != argument), *words(cell)[1:]


def _row(m: Measured) -> dict:
    accuracy = accuracy_at_eps(m)
    row: dict[str, Any] = {
        "dataset": m.cell.dataset,
        "arch": m.cell.arch,
        "teacher": lineage(m.cell.teacher),
        "folder": str(m.folder),
    }
    row |= {"source": Source(m), "seed": m.cell.seed}
    return row | named("clean", accuracy.clean) | named("at_eps", accuracy.robust) | {"at_eps_by": accuracy.by}
