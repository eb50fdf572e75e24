"""Observations of times, memory and ratios of times."""

from collections.abc import Iterator

import pandas as pd

from bench.manifest.manifest import Manifest
from bench.results.columns import SOURCE, Source
from bench.results.measured import Measured
from bench.results.ratios import baseline_as_published, matching_baseline, pairs
from reports.observations.observation import Row, basis, interval, last, observe, place, point, rows

_POINTS = {
    "images_per_s": "images_per_s",
    "hours": "hours",
    "hours_with_teacher": "hours_with_teacher",
    "memory": "memory_mb",
}
"""Columns of values without an interval, by metric."""
_FACTORS = ("epochs", "passes", "batch", "precision", "host")


def timed(manifest: Manifest, timing: pd.DataFrame) -> Iterator[Row]:
    """Yield times, memory and slowdown of each cell, and the time of each round."""
    for row in rows(timing):
        m: Measured = row[SOURCE].cell
        made, n = basis(m.seconds)
        yield from _rounds(m)
        yield observe(Source(m), "s_per_epoch", interval(row, "s_per_epoch"), f"t {made}", n, last(m.starts))
        count = sum(map(len, m.runs.values()))
        for metric, column in _POINTS.items():
            yield observe(Source(m), metric, point(row[column]), n=count, start=last(m.starts))
        shares = len(m.phases)
        yield observe(Source(m), "loader_share", point(row["loader_share"]), n=shares, start=last(m.starts))
        training = last(m.trainings or m.starts)
        yield observe(Source(m), "host_memory", point(row["host_memory_mb"]), n=len(m.losses), start=training)
        yield observe(Source(m), "hours_making", point(row["hours_making"]))
        yield from _slowdowns(manifest, m, row)
        for metric in ("s_per_epoch", "slowdown", "hours", "hours_with_teacher"):
            yield observe(Source(m), f"paper_{metric}", point(row[f"paper_{metric}"]))


def _rounds(m: Measured) -> Iterator[Row]:
    images = m.cell.data.train_images
    for run, paces in m.paces.items():
        for turn, pace in paces.items():
            value = point(pace * images)
            yield observe(Source(m), "epoch_seconds", value, n=1, start=last(m.starts)) | place(m, run, turn)


def _slowdowns(manifest: Manifest, m: Measured, row: Row) -> Iterator[Row]:
    """Yield the ratios to the baseline."""
    published, paired = baseline_as_published(manifest, m), manifest.timing is not None
    base = matching_baseline(manifest, m) or published
    for metric, column, other, in_pairs in (
        ("slowdown", "slowdown", base, paired),
        ("slowdown_as_published", "as_published", published, paired),
        ("slowdown_unpaired", "unpaired", base, False),
        ("efficiency", "efficiency", base, paired),
    ):
        if other:
            yield _ratio(Source(m, other), metric, row, column, in_pairs)
    if base:
        start, runs = last(m.starts), len(m.runs)
        yield observe(Source(m, base), "slowdown_of_means", interval(row, "fieller"), "Fieller", runs, start)
        yield observe(Source(m, base), "ideal", point(row["ideal"]))
        if m.cell.control:
            yield observe(Source(m, base), "noise_floor", point(row["noise_floor"]), n=runs, start=start)


def _ratio(source: Source, metric: str, row: Row, column: str, paired: bool) -> Row:
    """An observation of the ratio of the times of the source's two cells."""
    m, other = source.cell, source.other
    assert other is not None
    made, n = "Welch t of log ratios", len(m.runs)
    if paired:
        variation, n = basis(pairs(m, other))
        staged = m.first_runs and n >= m.first_runs and variation == "over runs"
        made = f"paired {'two-stage ' * bool(staged)}t of log ratios {variation}"
    return observe(source, metric, interval(row, column), made, n, last(m.starts))


def changed(changes: pd.DataFrame) -> Iterator[Row]:
    """Yield the time and the slowdown of each cell relative to those before."""
    for row in rows(changes):
        source, made = row[SOURCE], "Welch t of log ratios"
        for metric in ("change", "slowdown_change"):
            yield observe(source, metric, interval(row, metric), made, row["runs_now"], last(source.cell.starts))


def needed(teachers: pd.DataFrame) -> Iterator[Row]:
    """Yield the hours of each training and robust dataset that a cell needs."""
    for row in rows(teachers):
        yield observe(row[SOURCE], "hours_needed", point(row["hours"])) | {"compared_with": row["needs"]}


def factored(manifest: Manifest, factors: pd.DataFrame) -> Iterator[Row]:
    """Yield the factors of the ratio of two training times."""
    for row in rows(factors):
        source = row[SOURCE]
        yield _ratio(source, "factor_total", row, "total", manifest.timing is not None)
        for name in _FACTORS:
            yield observe(source, f"factor_{name}", point(row[name]), start=last(source.cell.starts))
        yield observe(source, "paper_factor_total", point(row["paper_total"]))


def scheduled(manifest: Manifest, schedule: pd.DataFrame, costs: pd.DataFrame) -> Iterator[Row]:
    """Yield the factors that a training's schedule explains, and the relative cost of its timed epochs."""
    for row in rows(schedule):
        source, paired = row[SOURCE], manifest.timing is not None
        # Trainings of several seeds make one ratio; a study times one seed for all.
        one = {} if paired else {"seed": None}
        for name in ("total", "steady"):
            yield _ratio(source, f"schedule_{name}", row, name, paired) | one
        for name in ("epochs", "early"):
            yield observe(source, f"schedule_{name}", point(row[name]), start=last(source.cell.starts)) | one
    for row in rows(costs[costs["by"] != "constant"]):
        start = last(row[SOURCE].cell.trainings or row[SOURCE].cell.starts)
        yield observe(row[SOURCE], "epoch_cost", point(row["cost"]), start=start) | {"round": row["epoch"]}


def averaged(means: pd.DataFrame) -> Iterator[Row]:
    """Yield mean ratios over architectures, which belong to no one cell."""
    for row in rows(means):
        source, n, made = row[SOURCE], row["architectures"], "t of mean log ratios"
        no_cell: Row = {"cell": None, "architecture": None, "compared_with": None, "study": None}
        no_cell["method"] = f"{row['slower']} / {row['faster']}"
        start = last(source.cell.starts)
        for kind in ("geometric", "arithmetic"):
            yield observe(source, f"mean_ratio_{kind}", interval(row, kind), made, n, start) | no_cell
        yield observe(source, "mean_ideal", point(row["ideal"]), n=n) | no_cell


def scaled(scaling: pd.DataFrame) -> Iterator[Row]:
    """Yield speedup and parallel efficiency over ranks."""
    for row in rows(scaling):
        for metric, column in (("speedup", "speedup"), ("parallel_efficiency", "efficiency")):
            yield _ratio(row[SOURCE], f"{metric}_{row['kind']}", row, column, False)


def repeated(repetitions: pd.DataFrame) -> Iterator[Row]:
    """Yield the spread of each ratio by level, and the best number of rounds."""
    for row in rows(repetitions):
        source, start = row[SOURCE], last(row[SOURCE].cell.starts)
        for level in ("rounds", "runs", "hosts"):
            yield observe(source, f"sd_between_{level}", point(row[f"sd_{level}"]), n=row["runs"], start=start)
        yield observe(source, "best_rounds", point(row["best_rounds"]), n=row["runs"], start=start)


def explained(fits: pd.DataFrame) -> Iterator[Row]:
    """Yield the parts of each fit over ranks, and its predictions, each for the cell of this number of ranks."""
    for row in rows(fits):
        source, n, made = row[SOURCE], len(row["counts"].split(",")), "bootstrap over runs"
        for metric, column in (
            ("serial_share", "serial"),
            ("communication_share", "communication"),
            ("predicted_relative_time", "predicted"),
        ):
            yield observe(source, metric, interval(row, column), made, n, last(source.cell.starts))
        yield observe(source, "imbalance", point(row["imbalance"]), start=last(source.cell.starts))


def switched(speed: pd.DataFrame) -> Iterator[Row]:
    """Yield the effect of switches on a method; its slowdown is among those of all cells."""
    for row in rows(speed):
        source = row[SOURCE]
        if source.other:
            yield _ratio(source, "speedup_of_switches", row, "speedup", True)
        for metric in ("of_product", "of_copy"):
            yield observe(Source(source.cell), metric, point(row[metric]), start=last(source.cell.starts))


def certified(certification: pd.DataFrame) -> Iterator[Row]:
    """Yield the speed of each certification procedure."""
    for row in rows(certification):
        source, procedure, n = row[SOURCE], {"evaluation": row["way"]}, row["rounds"]
        start, made = last(source.cell.starts), "paired t of log ratios within one run"
        for what in ("images_per_s", "draws_per_s"):
            yield observe(source, f"certification_{what}", point(row[what]), n=n, start=start) | procedure
        yield observe(source, "certification_speedup", interval(row, "speedup"), made, n, start) | procedure
