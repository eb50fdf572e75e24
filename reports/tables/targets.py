"""Time to a target: how long each method trains until its monitored robust accuracy reaches a stated share."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.cell import Spec
from bench.manifest.labels import Names
from bench.results.columns import SOURCE, Source, columns, named
from bench.results.expenses import whole_hours
from bench.results.measured import Measured
from bench.results.robustness import has_eps
from bench.results.statistics import NOTHING, Interval, mean_ci, wilson
from reports.render.table_spec import ARCH, BOTH, INTERVALS, Column, TableSpec, alike, datasets

_NAMES = (
    "dataset,arch,method,eval,target,seeds,reached,reached_rate,reached_rate_low,reached_rate_high,epochs,hours,hours_low,"
    "hours_high,censored_hours,operations"
)


def targets(measured: list[Measured], target: float | None) -> pd.DataFrame:
    """A row per monitored method: time until its accuracy is first at least `target`; none without a target.

    `hours` is the geometric mean over the seeds that reach it. It has an interval (Student's t of logarithms) only if
    all do: times of trainings that end before are censored, and `censored_hours` is the shortest of these trainings.
    `operations` is the mean count of floating-point operations until then.
    """
    groups: dict[tuple, list[Measured]] = {}
    for m in measured:
        if target is not None and m.curves and _judged(m):
            groups.setdefault((m.folder, m.cell.seedless.id), []).append(m)
    names = Names(seeds[0].cell.seedless for seeds in groups.values())
    rows = [_row(seeds, names.full_label(seeds[0].cell.seedless), target or 0.0) for seeds in groups.values()]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _judged(m: Measured) -> Spec | None:
    """The monitored evaluation that counts: the first at an eps, else the first."""
    evaluations = m.cell.monitor.evals if m.cell.monitor else ()
    return next((spec for spec in evaluations if has_eps(spec.name)), next(iter(evaluations), None))


def _row(seeds: list[Measured], label: str, target: float) -> dict[str, object]:
    first, spec = seeds[0], _judged(seeds[0])
    assert spec is not None
    epochs = {m: _epochs_to(m, spec, target) for m in seeds}
    reached = [m for m in seeds if epochs[m]]
    hours = [share * whole_hours(m) for m in reached if (share := epochs[m] / m.cell.recipe.epochs)]
    others = [len(m.losses) / m.cell.recipe.epochs * whole_hours(m) for m in seeds if not epochs[m]]
    operations = [_operations(m) * epochs[m] for m in reached]
    return {
        "dataset": first.cell.dataset,
        "arch": first.cell.arch,
        "method": label,
        "eval": spec.label,
        "target": target,
        "seeds": len(seeds),
        "reached": len(reached),
        **named("reached_rate", wilson(len(reached), len(seeds)) if len(seeds) > 1 else NOTHING),
        "epochs": float(np.mean([epochs[m] * m.cell.replays for m in reached])) if reached else math.nan,
        **named("hours", _geometric(hours, bool(others))),
        "censored_hours": min(others, default=math.nan),
        "operations": float(np.mean(operations)) if operations else math.nan,
        "folder": str(first.folder),
        SOURCE: Source(first, spec=spec),
    }


def _epochs_to(m: Measured, spec: Spec, target: float) -> int:
    """Number of loaded epochs after which the accuracy is first at least the target; 0 if it never is."""
    reached = [epoch for (name, epoch), point in m.curves.items() if name == spec.id and point.standing >= target]
    return min(reached) + 1 if reached else 0


def _geometric(hours: list[float], censored: bool) -> Interval:
    if not hours or not all(value > 0 for value in hours):
        return NOTHING
    interval = Interval(*map(float, np.exp(mean_ci(np.log(hours).tolist()))))
    return Interval(interval.mean, math.nan, math.nan) if censored else interval


def _operations(m: Measured) -> float:
    """Counted operations of one loaded epoch."""
    images = m.cell.images or m.cell.data.train_images
    return math.nan if m.flops is None else m.flops * m.cell.replays * images


def targets_table(targets: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the times to the target."""
    rows = targets.assign(count=[f"{row.reached} of {row.seeds}" for row in targets.itertuples()])
    columns = [
        *(*datasets(rows), ARCH, *alike("method", "name")),
        Column("eval", "monitored by", "name", width=22, hide=3),
        Column("count", "reached by"),
        Column("reached_rate", "rate (%)", "percent", "rate", optional=BOTH, hide=2),
        Column("epochs", "epochs", "rounded"),
        Column("hours", "time to target", "hours", "time to target (h)"),
        Column("censored_hours", "others trained", "hours", "others trained (h)", optional=BOTH),
        Column("operations", "operations", "rounded", optional=BOTH, hide=1),
    ]
    share = f"{100 * rows['target'].iloc[0]:g}"
    title, caption = f"Time to an accuracy of {share} % while it is monitored", rf"time to an accuracy of {share}\,\%."
    yield TableSpec(title, caption, columns, rows, [INTERVALS])
