"""The spread of each ratio of times by level, and the best number of rounds in a run."""

import math
from collections.abc import Iterator

import pandas as pd

from bench.manifest.labels import name
from bench.manifest.manifest import Manifest
from bench.results.columns import Source, columns
from bench.results.measured import Measured
from bench.results.ratios import matching_baseline, pairs
from bench.results.variance import best_rounds, components, costs
from reports.render.table_spec import ARCH, Column, TableSpec, alike, datasets

_NAMES = (
    "dataset,arch,method,batch,runs,rounds,hosts,sd_rounds,sd_runs,sd_hosts,seconds_round,seconds_run,best_rounds,pays"
).split(",")
_FAR = 1.5
"""Factor between the best number of rounds and theirs from which one kind of repetition pays more."""


def repetitions(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row for each arm of a study with two or more runs, beside its baseline."""
    rows = []
    for m in measured if manifest.timing else ():
        base = matching_baseline(manifest, m)
        if base is None or base is m:
            continue
        shared = sorted(m.runs.keys() & base.runs.keys())
        logs = {run: values for run, values in zip(shared, pairs(m, base), strict=True) if values}
        if len(logs) < 2:
            continue
        # The host of a run whose start was not recorded is unknown, and counts as another one.
        hosts = {run: m.started[run].host if run in m.started else "" for run in logs}
        found, cost = components(logs, hosts), costs(m.comparison_group)
        best, rounds = best_rounds(found, cost), max(map(len, logs.values()))
        row: dict[str, object] = {"dataset": m.cell.dataset, "arch": m.cell.arch, "method": name(m.cell)}
        row |= {"batch": m.cell.recipe.batch_size, "runs": len(logs), "rounds": rounds}
        row |= {"hosts": len(set(hosts.values()))}
        row |= {f"sd_{level}": value for level, value in found._asdict().items()}
        row |= {"seconds_round": cost.of_round, "seconds_run": cost.of_run}
        row["best_rounds"] = math.nan if math.isinf(best) else best
        rows.append(row | {"pays": _pays(best, rounds), "folder": str(m.folder), "source": Source(m, base)})
    return pd.DataFrame(rows, columns=columns(_NAMES, measured))


def _pays(best: float, rounds: int) -> str | None:
    """The kind of repetition that narrows the interval most for the same time."""
    if math.isnan(best):
        return None
    if best > _FAR * rounds:
        return "more rounds"
    return "more runs, fewer rounds" if best < rounds / _FAR else "more runs"


def repetitions_table(repetitions: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the spread of ratios by level."""
    levels = [Column(f"sd_{level}", f"{level} %", "percent", rf"{level} in \%") for level in ("rounds", "runs")]
    hosts = Column("sd_hosts", "hosts %", "percent", r"hosts in \%", optional="text latex")
    columns = [*datasets(repetitions), ARCH, *alike("method", "name"), *alike("batch", "count", hide=1), *levels, hosts]
    columns += [
        Column("seconds_round", "s/round", "rounded", hide=3),
        Column("seconds_run", "s/run", "rounded", hide=2),
        Column("best_rounds", "best rounds", "count"),
        Column("pays", "pays", "word"),
    ]
    title = "Where repetitions pay: standard deviation of the ratio to the baseline between rounds, runs and hosts"
    yield TableSpec(title, "standard deviation of the ratio to the baseline by level.", columns, repetitions)
