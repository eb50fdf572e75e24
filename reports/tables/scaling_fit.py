"""Scaling explained: parts of the time of an epoch, and what a fit to the other numbers of ranks predicts."""

import math
from collections.abc import Iterator
from statistics import fmean

import pandas as pd

from bench.manifest.labels import name
from bench.results.columns import Source, columns, named
from bench.results.measured import Measured
from bench.results.ratios import ratio
from bench.results.scaling_law import fit
from reports.render.table_spec import ARCH, INTERVALS, Column, TableSpec, alike, datasets
from reports.tables.scaling import is_reference

_NAMES = (
    "dataset,arch,method,batch,nodes,counts,serial,serial_low,serial_high,communication,communication_low,"
    "communication_high,ranks,predicted,predicted_low,predicted_high,measured,measured_low,measured_high,imbalance"
)


def scaling_fit(measured: list[Measured]) -> pd.DataFrame:
    """A row per number of ranks of each fit, which needs times at the same global batch size on three numbers of ranks.

    `serial` and `communication` are shares of the time on one rank (`bench.results.scaling_law`). `predicted` is the
    time relative to one rank by a fit without this number of ranks, `measured` the measured one. `imbalance` is the
    time that the slowest rank computes in an epoch, relative to the mean of all ranks, less 1.
    """
    rows = []
    timed = [m for m in measured if m.timed and not m.cell.control]
    for first in (m for m in timed if m.cell.ranks == 1):
        by_nodes: dict[int, dict[int, Measured]] = {}
        for m in timed:
            if m.cell.ranks > 1 and is_reference(first, m, "strong"):
                by_nodes.setdefault(m.cell.nodes, {})[m.cell.ranks] = m
        rows += [row for nodes, others in by_nodes.items() for row in _rows(first, others, nodes)]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _rows(first: Measured, others: dict[int, Measured], nodes: int) -> Iterator[dict[str, object]]:
    """Yield the rows of the fit to one rank and others; none where these are too few."""
    law = fit({1: _means(first)} | {ranks: _means(m) for ranks, m in others.items()})
    if law is None:
        return
    for ranks, predicted in law.left_out.items():
        m = others[ranks]
        yield {
            "dataset": first.cell.dataset,
            "arch": first.cell.arch,
            "method": name(first.cell),
            "batch": first.cell.recipe.batch_size,
            "nodes": nodes,
            "counts": ", ".join(map(str, [1, *sorted(others)])),
            **named("serial", law.serial),
            **named("communication", law.communication),
            "ranks": ranks,
            **named("predicted", predicted),
            **named("measured", ratio(m, first, False, ("world_size", "nodes")).interval),
            "imbalance": _imbalance(m),
            "folder": str(m.folder),
            "source": Source(m, first),
        }


def _means(m: Measured) -> list[float]:
    return [fmean(run) for run in m.seconds if run]


def _imbalance(m: Measured) -> float:
    """Mean over the recorded epochs; NaN where they lack the phases of a rank."""
    shares = []
    for phases in m.phases:
        computed = [(rank.device or rank.host).get("compute", math.nan) for rank in (phases, *phases.other_ranks)]
        if len(computed) == m.cell.ranks:
            shares.append(max(computed) / fmean(computed) - 1)
    return fmean(shares) if shares else math.nan


def scaling_fit_table(fits: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the parts of each fit, and its predictions beside what was measured."""
    columns = [*datasets(fits), ARCH, *alike("method", "name"), *alike("batch nodes", "count", hide=2)]
    columns += [
        *(Column(key, f"{key} %", "percent", rf"{key} in \%") for key in ("serial", "communication")),
        *alike("ranks", "count"),
        *(Column(key, f"time {key}", "ratio", key, "time relative to one rank") for key in ("predicted", "measured")),
        Column("imbalance", "imbalance %", "percent", r"imbalance in \%", optional="text latex", hide=1),
    ]
    title = (
        "Scaling explained: parts of the time on one rank, and the time on a number of ranks that the others predict"
    )
    yield TableSpec(title, "parts of the time on one rank, and predicted times.", columns, fits, [INTERVALS])
