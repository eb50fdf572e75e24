"""Trainings that collapsed, and the rate of collapse of each method over its seeds."""

from collections.abc import Iterator

import pandas as pd

from bench.manifest.labels import Names
from bench.results.collapse import assessed, collapse
from bench.results.columns import SOURCE, Source, columns, named
from bench.results.measured import Measured
from bench.results.statistics import NOTHING, wilson
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike, network, with_labels

_NAMES = (
    "dataset,arch,method,norm,trained_eps,sigma,ranks,seed,rule,detail,collapsed,trainings,collapse_rate,"
    "collapse_rate_low,collapse_rate_high,id"
)


def trainings(measured: list[Measured]) -> pd.DataFrame:
    """A row per training whose records can show a collapse.

    `rule` and `detail` are empty where it did not collapse (`bench.results.collapse` states the rules). `collapsed`,
    `trainings` and the rate, with Wilson's interval, count all seeds of the cell.
    """
    groups: dict[tuple, list[Measured]] = {}
    # Several studies may hold the same cell, whose training is one.
    for m in {(m.folder, m.id): m for m in measured if assessed(m)}.values():
        groups.setdefault((m.folder, m.cell.seedless.id), []).append(m)
    names = Names(seeds[0].cell.seedless for seeds in groups.values())
    rows = [row for seeds in groups.values() for row in _rows(seeds, names.full_label(seeds[0].cell.seedless))]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _rows(seeds: list[Measured], label: str) -> Iterator[dict[str, object]]:
    """Yield the rows of a cell's seeds."""
    collapses = {m: collapse(m) for m in seeds}
    count = sum(each is not None for each in collapses.values())
    # One training is no rate.
    rate = wilson(count, len(seeds)) if len(seeds) > 1 else NOTHING
    for m, found in collapses.items():
        cell = m.cell
        yield {
            "dataset": cell.dataset,
            "arch": cell.arch,
            "method": label,
            "norm": cell.threat.norm,
            "trained_eps": cell.threat.eps,
            "sigma": cell.threat.sigma,
            "ranks": cell.ranks,
            "seed": cell.seed,
            "rule": found.rule if found else None,
            "detail": found.detail if found else None,
            "collapsed": count,
            "trainings": len(seeds),
            **named("collapse_rate", rate),
            "id": m.id,
            "folder": str(m.folder),
            SOURCE: Source(m),
        }


def trainings_table(trainings: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the trainings that collapsed; no table where none did."""
    collapsed = trainings[trainings["rule"].notna()]
    if collapsed.empty:
        return
    rows = with_labels(collapsed)
    rows = rows.assign(count=[f"{row.collapsed} of {row.trainings}" for row in rows.itertuples()])
    columns = [
        *network(rows, "trained_for sigma ranks"),
        *alike("seed", "general"),
        Column("count", "collapsed"),
        Column("collapse_rate", "rate (%)", "percent", "rate", optional=BOTH),
        Column("rule", "collapse", "name"),
        Column("detail", "shown by", "name", width=40),
    ]
    yield TableSpec("Collapsed trainings", "collapsed trainings.", columns, rows, [INTERVALS])
