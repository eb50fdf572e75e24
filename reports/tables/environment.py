"""Machines and software of the measurements, side by side."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pandas as pd

from bench.records import Start
from bench.results.measured import Measured
from reports.render.table_spec import TEXT, Column, TableSpec
from reports.tables.teachers import outside

_FIELDS = {
    "device": "device",
    "cpu": "processor",
    "cpus": "cores",
    "threads": "threads",
    "world_size": "ranks",
    "nodes": "nodes",
    "driver": "GPU driver",
    "cuda": "CUDA",
    "watts": "GPU power limit (W)",
    "max_sm": "highest SM clock (MHz)",
    "max_memory": "highest memory clock (MHz)",
    "python": "Python",
    "torch": "torch",
    "torchvision": "torchvision",
    "ffcv": "ffcv",
    "loader": "loader",
    "allocator": "memory allocator",
    "process": "processes",
    "commit": "commit",
    "dirty": "uncommitted changes",
    "diff": "digest of the changes",
}
"""Fields of `Start` that describe an environment, with their names on the page."""


def environment_table(measured: list[Measured]) -> Iterator[TableSpec]:
    """Describe the environments: a row for each field, those that differ first, and a column for each environment."""
    environments: dict[tuple, list[tuple[str, Start]]] = {}
    for use, start in _starts(measured):
        environments.setdefault(tuple(getattr(start, key) for key in _FIELDS), []).append((use, start))
    if not environments:
        return
    rows: list[dict[str, str | None]] = [
        {"field": heading, **{f"e{k}": _word(values[place]) for k, values in enumerate(environments)}}
        for place, heading in enumerate(_FIELDS.values())
    ]
    rows.append({"field": "dates (UTC)", **{f"e{k}": _dates(uses) for k, uses in enumerate(environments.values())}})
    frame = pd.DataFrame(rows)
    frame = frame[frame.drop(columns="field").notna().any(axis=1)]
    differs = frame.drop(columns="field").nunique(axis=1, dropna=False) > 1
    headings = (_uses(uses) for uses in environments.values())
    columns = [Column("field", "field", "name")]
    columns += [Column(f"e{k}", heading, "name") for k, heading in enumerate(headings)]
    yield TableSpec("Machines and software", "", columns, pd.concat([frame[differs], frame[~differs]]), writers=TEXT)


def _starts(measured: list[Measured]) -> Iterator[tuple[str, Start]]:
    for m in measured:
        yield from (("timing study" if m.study else "training", start) for start in m.starts)
        yield from (("training", start) for start in m.trainings)
    for m in outside(measured):
        yield from (("training of teachers", start) for start in m.starts)


def _uses(starts: Iterable[tuple[str, Start]]) -> str:
    return ", ".join(dict.fromkeys(use for use, _ in starts))


def _dates(starts: Iterable[tuple[str, Start]]) -> str:
    days = sorted({datetime.fromtimestamp(start.time, UTC).date().isoformat() for _, start in starts})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _word(value: object) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)
