"""Factors of a whole training that its schedule explains, and the cost of its epochs relative to the baseline's."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from bench.manifest.labels import epochs
from bench.results.columns import SOURCE, Source, columns, named
from bench.results.contenders import Contender, Setting
from bench.results.measured import Measured
from bench.results.schedule import Course, courses, early, relative_costs, steady_ratio
from bench.results.statistics import Interval
from reports.render.table_spec import ARCH, INTERVALS, Column, TableSpec, alike, datasets, varying

_NAMES = (
    "dataset,arch,ranks,method,trainings,total,total_low,total_high,own_epochs,baseline_epochs,epochs,steady,steady_low,"
    "steady_high,early,saved,by"
)
_COSTS = ["dataset", "arch", "method", "epoch", "cost", "by", "id", "seed"]


def schedule(compared: Sequence[Setting], measured: list[Measured]) -> pd.DataFrame:
    """A row per timed method other than the baseline: total = epochs x steady x early, relative to the baseline.

    `epochs` is the ratio of the numbers of epochs, `steady` that of the times of an epoch once the method's schedule
    has reached its last phase, and `early` the cost of the whole training relative to one of steady epochs, over that
    of the baseline; `saved` is 1 - early. `by` says what tells `early`: epochs of trainings, counted operations, or the
    method's word that all of its steps cost the same.
    """
    rows = [_row(setting, each, base) for setting in compared for each, base in _compared(setting) if each is not base]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _compared(setting: Setting) -> Iterator[tuple[Contender, Contender]]:
    """Yield the baseline, and the contenders whose times are known relative to it, each with the baseline."""
    base = setting.baseline
    for each in setting.contenders:
        if base and not math.isnan(setting.cost(each, base).mean):
            yield each, base


def _row(setting: Setting, each: Contender, base: Contender) -> dict[str, object]:
    steady, found = steady_ratio(setting, each, base), courses(each, setting.paired)
    longer = epochs(each.first.cell) / epochs(base.first.cell)
    share = early(found) / early(courses(base, setting.paired))
    return {
        "dataset": setting.dataset,
        "arch": setting.arch,
        "ranks": setting.ranks,
        "method": each.label,
        "trainings": len(found),
        **named("total", Interval(*(longer * share * value for value in steady))),
        "own_epochs": epochs(each.first.cell),
        "baseline_epochs": epochs(base.first.cell),
        "epochs": longer,
        **named("steady", steady),
        "early": share,
        "saved": 1 - share,
        "by": next((course.by for course in found.values()), None),
        "folder": str(each.first.folder),
        SOURCE: Source(each.timed, base.timed),
    }


def epoch_costs(compared: Sequence[Setting], measured: list[Measured]) -> pd.DataFrame:
    """A row per cell and timed epoch of its training: time relative to a steady epoch of the baseline.

    Epochs count from 1, each replay as one. Where no training was timed, counted operations give the course, with one
    row for the last epoch of each stretch of equal cost.
    """
    rows = [
        row
        for setting in compared
        for each, base in _compared(setting)
        for row in _curve(each, base, steady_ratio(setting, each, base).mean, setting.paired)
    ]
    return pd.DataFrame(rows, columns=columns(_COSTS, measured))


def _curve(each: Contender, base: Contender, level: float, paired: bool) -> Iterator[dict[str, object]]:
    """Yield the costs of a contender's epochs: of each training that was timed, else of its course."""
    timed = {m: relative for m in each.by_seed.values() if (relative := relative_costs(m, paired))}
    for m, relative in timed.items():
        yield from (_cost(each, m, base, epoch, level * cost, "trainings") for epoch, cost in relative.items())
    for seed, course in list(courses(each, paired).items())[:1] if not timed else ():
        m = each.by_seed[seed]
        ends = _stretches(course, m.cell.recipe.epochs)
        yield from (_cost(each, m, base, epoch, level * course.epoch(epoch), course.by) for epoch in ends)


def _stretches(course: Course, total: int) -> list[int]:
    """The last epoch of each stretch of equal cost."""
    costs = [course.epoch(epoch) for epoch in range(total)]
    return [epoch for epoch in range(total) if epoch + 1 == total or costs[epoch] != costs[epoch + 1]]


def _cost(each: Contender, m: Measured, base: Contender, epoch: int, cost: float, by: str) -> dict[str, object]:
    return {
        "dataset": m.cell.dataset,
        "arch": m.cell.arch,
        "method": each.label,
        "epoch": (epoch + 1) * m.cell.replays,
        "cost": cost,
        "by": by,
        "id": m.id,
        "seed": m.cell.seed,
        "folder": str(m.folder),
        SOURCE: Source(m, base.timed if each is not base else None),
    }


def schedule_table(schedule: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the factors, where schedules differ in their number of epochs or have cheaper or dearer early ones."""
    if ((schedule["epochs"] == 1) & schedule["early"].isin([1.0])).all():
        return
    columns = [
        *(*datasets(schedule), ARCH, *varying(schedule, alike("ranks", "count")), *alike("method", "name")),
        Column("own_epochs", "trains for", "count", hide=3),
        Column("total", "total", "ratio"),
        *(Column("epochs", "epochs", "ratio"), Column("steady", "steady epoch", "ratio")),
        Column("early", "early epochs", "ratio"),
        Column("saved", "saved %", "percent", r"saved in \%", hide=2),
        Column("by", "known by", "word", hide=1),
    ]
    title = "Factors of the schedule: total = epochs x steady epoch x early epochs, relative to the baseline"
    yield TableSpec(title, "factors of the schedule; their product is the total.", columns, schedule, [INTERVALS])
