"""Observations of energy, emissions, prices and the phases of an epoch."""

from collections.abc import Iterator

import pandas as pd

from bench.results.columns import SOURCE, Source
from bench.results.energy import joules, joules_by_run
from bench.results.measured import Measured
from reports.observations.observation import Row, basis, interval, last, observe, place, point, rows

_POINTS = (
    "watts",
    "joules_with_teacher",
    "kg_co2",
    "kg_co2_with_teacher",
    "gpu_hours",
    "gpu_hours_with_teacher",
    "price",
    "price_with_teacher",
)
"""Columns of values without an interval."""
_SHARES = ("waiting_share", "transfer_share", "all_reduce_share")


def consumed(energy: pd.DataFrame) -> Iterator[Row]:
    """Yield the energy of each round, of an epoch and of a training, what it costs, and the shares of the phases."""
    for row in rows(energy):
        source: Source = row[SOURCE]
        m = source.cell
        start = last(m.starts)
        yield from _rounds(m)
        made, n = basis(joules_by_run(m))
        for metric in ("joules_per_epoch", "joules"):
            yield observe(source, metric, interval(row, metric), f"t {made}", n, start)
        for metric in _POINTS:
            yield observe(source, metric, point(row[metric]), start=start)
        for metric in _SHARES:
            yield observe(source, metric, interval(row, metric), "t over runs", len(m.phases), start)


def _rounds(m: Measured) -> Iterator[Row]:
    for run, rounds in joules(m).items():
        for turn, value in rounds.items():
            yield observe(Source(m), "epoch_joules", point(value), n=1, start=last(m.starts)) | place(m, run, turn)
