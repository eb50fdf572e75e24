"""The cost, the accuracy and the gain of each method, and how often it is on the Pareto front."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from bench.manifest.labels import epochs
from bench.results.columns import SOURCE, Source, columns, named
from bench.results.contenders import Contender, Setting
from bench.results.front import front_frequencies
from bench.results.judging import judging
from bench.results.measured import Measured
from bench.results.statistics import NOTHING
from reports.render.table_spec import ARCH, BOTH, INTERVALS, Column, TableSpec, alike, datasets, varying

_NAMES = (
    "dataset,arch,ranks,method,figure,seeds,cost,cost_low,cost_high,operations,accuracy,accuracy_low,accuracy_high,gain,"
    "gain_low,gain_high,cost_per_point,front"
)


def robustness_cost(compared: Sequence[Setting], measured: list[Measured]) -> pd.DataFrame:
    """A row per method that was judged, in settings with two or more of them.

    `cost` is the time of the whole training relative to the baseline, without teachers, `operations` the ratio of the
    counted operations, `gain` the difference of the accuracies that methods are judged by. `cost_per_point` is the
    additional cost for each percentage point of a gain that is shown. `front` is the share of bootstrap draws of seeds,
    images and times in which the method is on the Pareto front of cost and accuracy.
    """
    rows = []
    for setting in compared:
        if len(setting.judged) > 1:
            front = front_frequencies(setting)
            rows += [_row(setting, each, front.get(each, math.nan)) for each in setting.judged]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _row(setting: Setting, each: Contender, front: float) -> dict[str, object]:
    m, base = each.first, setting.baseline
    cost = setting.cost(each, base) if base else NOTHING
    gain = setting.difference(each, base) if base else NOTHING
    shown = base is not None and setting.differs(each, base) > 0
    return {
        "dataset": setting.dataset,
        "arch": setting.arch,
        "ranks": setting.ranks,
        "method": each.label,
        "figure": setting.figure,
        "seeds": len(each.robust),
        **named("cost", cost),
        "operations": _operations(each.timed) / _operations(base.timed) if base else math.nan,
        **named("accuracy", each.accuracy),
        **named("gain", gain if each is not base else NOTHING),
        "cost_per_point": (cost.mean - 1) / (100 * gain.mean) if shown else math.nan,
        "front": front,
        "folder": str(m.folder),
        SOURCE: Source(m, base.first if base else None, judging(m.cell)),
    }


def _operations(m: Measured) -> float:
    """Counted operations of the whole training for one image."""
    return math.nan if m.flops is None else m.flops * epochs(m.cell)


def robustness_cost_table(costs: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the costs and gains."""
    columns = [
        *(*datasets(costs), ARCH, *varying(costs, alike("ranks", "count")), *alike("method", "name")),
        Column("figure", "judged by", "name", width=22, hide=5),
        *alike("seeds", "count", hide=4),
        Column("cost", "cost", "ratio", "cost", optional=BOTH),
        Column("operations", "operations", "ratio", optional=BOTH, hide=3),
        Column("accuracy", "accuracy", "percent"),
        Column("gain", "gain", "points", optional=BOTH, hide=2),
        Column("cost_per_point", "cost per point", "rounded", optional=BOTH, hide=1),
        Column("front", "on front %", "percent", r"on front in \%", optional=BOTH),
    ]
    title = "What robustness costs: time and operations relative to the baseline, accuracy in %, gain in points"
    yield TableSpec(title, r"cost of robustness; accuracy in \%.", columns, costs, [INTERVALS])
