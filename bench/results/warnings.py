"""What a reader must know before trusting a number: said, and nothing left out for it."""

from collections.abc import Iterable, Iterator
from functools import cache

from bench.manifest.labels import name
from bench.results.columns import folders
from bench.results.intervals import drift, outliers
from bench.results.measured import Measured

_NAMED = 8
"""Cells that a line names; of more it says how many, and the CSV names them."""


def remarks(measured: list[Measured]) -> list[str]:
    """A line for each kind of thing that is odd about cells' times, with the cells, and what is odd of each."""
    found: dict[str, dict[Measured, list[str]]] = {}
    for m in measured:
        for kind, detail in _odd(m):
            found.setdefault(kind, {}).setdefault(m, []).append(detail)
    timed, apart = sum(bool(m.runs) for m in measured), len(folders(measured)) > 1
    return [
        f"{kind}: "
        + (f"{len(cells)} of {timed} (remarks in the CSV)" if len(cells) > _NAMED else ", ".join(_whose(cells, apart)))
        for kind, cells in found.items()
    ]


def several(names: Iterable[str]) -> str:
    """The names, or how many they are where a line cannot hold them."""
    names = list(dict.fromkeys(names))
    return f"{len(names)} cells" if len(names) > _NAMED else ", ".join(names)


def remark(m: Measured) -> str | None:
    """All that is odd about one cell's times."""
    said = [f"{kind}: {detail}" if detail else kind for kind, detail in _odd(m)]
    return "; ".join(said) or None


def _whose(cells: dict[Measured, list[str]], apart: bool) -> Iterator[str]:
    named: dict[str, list[str]] = {}
    for m, details in cells.items():
        where = f" in {m.folder}" if apart else ""
        named.setdefault(f"{m.cell.arch} {name(m.cell)}{where}", []).extend(details)
    for label, details in named.items():
        said = "; ".join(dict.fromkeys(filter(None, details)))
        yield f"{label} ({said})" if said else label


@cache
def _odd(m: Measured) -> tuple[tuple[str, str], ...]:
    """The kind of each odd thing, and what is to be said of this cell's: the head asks, and every table of times."""
    return tuple(_of(m))


def _of(m: Measured) -> Iterator[tuple[str, str]]:
    for said in m.remarks:
        yield said, ""
    for (run, epochs), times in zip(m.runs.items(), m.seconds, strict=True):
        change = drift(times)
        if change is not None:
            yield "Times drift from the first round to the last", f"run {run}: {change:+.0%}"
        turns = list(epochs)
        far = ", ".join(str(turns[k]) for k in outliers(times))
        if far:
            yield "Rounds stand out", f"run {run}: {far}"
    if loads := [start.load for start in m.starts if start.load > start.cpus]:
        yield f"The host was busy at the start, with a load above its {m.starts[0].cpus} cores", f"{max(loads):.1f}"
    epochs = [epoch for run in m.runs.values() for epoch in run.values() if epoch.gpu]
    throttled = [epoch for epoch in epochs if epoch.gpu.throttle]
    if throttled:
        reasons = sorted({reason for epoch in throttled for reason in epoch.gpu.throttle})
        extent = "throughout" if len(throttled) == len(epochs) else f"in {len(throttled)} of {len(epochs)} epochs"
        yield "The GPU was throttled", f"{extent}: {', '.join(reasons)}"
