"""Hours that a cell needs besides its own training: its ancestors' and those of robust datasets, each once."""

from collections.abc import Iterable

import pandas as pd

from bench.manifest.labels import name
from bench.results.columns import Source, columns, folders
from bench.results.expenses import expenses, network_label
from bench.results.measured import Measured
from bench.results.warnings import several

_NAMES = ["dataset", "arch", "method", "student", "needs", "kind", "name", "hours", "hours_unknown"]


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
                missing.setdefault(each.why, []).append(f"{network_label(m.cell)}{where}")
        sources |= dict.fromkeys(line for teacher in m.teachers if teacher.timed for line in _differences(m, teacher))
    return [f"Hours with teacher are unknown for {several(cells)}: {why}." for why, cells in missing.items()] + list(
        sources
    )


def _differences(m: Measured, teacher: Measured) -> Iterable[str]:
    """Yield the differences between the hours of a teacher and those of its student."""
    label, trained = network_label(teacher.cell), len(teacher.losses)
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
