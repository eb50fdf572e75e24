"""Energy of training, its emissions and price, and the share of an epoch that communication takes."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.manifest.labels import lineage, name
from bench.results.columns import Source, columns, named, number
from bench.results.energy import (
    JOULES_PER_KWH,
    Phase,
    Rates,
    energy_unknown,
    joules_by_run,
    phase_clock,
    phase_shares,
    training_joules,
    watts,
)
from bench.results.expenses import expenses, whole_hours
from bench.results.intervals import nested_ci
from bench.results.measured import Measured
from bench.results.statistics import Interval
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike, network, varying, with_labels

_NAMES = (
    "dataset,arch,method,teacher,norm,trained_eps,sigma,batch,ranks,nodes,joules_per_epoch,joules_per_epoch_low,"
    "joules_per_epoch_high,watts,joules,joules_low,joules_high,joules_with_teacher,kg_co2,kg_co2_with_teacher,gpu_hours,"
    "gpu_hours_with_teacher,price,price_with_teacher,clock,waiting_share,waiting_share_low,waiting_share_high,"
    "transfer_share,transfer_share_low,transfer_share_high,all_reduce_share,all_reduce_share_low,all_reduce_share_high,"
    "grid_intensity,hourly_rate,energy_unknown"
).split(",")
_PHASES: dict[str, Phase] = {
    "waiting_share": "loader",
    "transfer_share": "transfer",
    "all_reduce_share": "all_reduce",
}
_IN_KWH = {"kwh": "joules", "kwh_with_teacher": "joules_with_teacher"}


def energy(measured: list[Measured], rates: Rates) -> pd.DataFrame:
    """A row for each cell with a recorded energy or phase.

    Energy is that of the GPUs' boards of all ranks; that of hosts, network and cooling is not measured. A whole
    training is computed: energy per epoch x epochs. Emissions and prices follow from `rates`. Sums with the teacher
    are NaN where a part is unknown.
    """
    rows = [_row(m, rates) for m in measured]
    recorded = [row for row in rows if not all(math.isnan(row[key]) for key in ("joules", "price", *_PHASES))]
    return pd.DataFrame(recorded, columns=columns(_NAMES, measured))


def _row(m: Measured, rates: Rates) -> dict[str, Any]:
    cell, own, hours = m.cell, training_joules(m), _gpu_hours(m)
    joules_with_teacher, hours_with_teacher = _energy_with_teacher(m), _gpu_hours_with_teacher(m)
    row = {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "teacher": lineage(cell.teacher),
        "norm": cell.threat.norm,
        "trained_eps": cell.threat.eps,
        "sigma": cell.threat.sigma,
        "batch": cell.recipe.batch_size,
        "ranks": cell.ranks,
        "nodes": cell.nodes,
        **named("joules_per_epoch", nested_ci(joules_by_run(m))),
        "watts": watts(m),
        **named("joules", own),
        "joules_with_teacher": joules_with_teacher,
        "kg_co2": rates.kg_co2(own.mean),
        "kg_co2_with_teacher": rates.kg_co2(joules_with_teacher),
        "gpu_hours": hours,
        "gpu_hours_with_teacher": hours_with_teacher,
        "price": rates.price(hours),
        "price_with_teacher": rates.price(hours_with_teacher),
        "clock": phase_clock(m),
        "grid_intensity": number(rates.grid_intensity),
        "hourly_rate": number(rates.hourly_rate),
        "energy_unknown": energy_unknown(m),
        "folder": str(m.folder),
        "source": Source(m),
    }
    for column, phase in _PHASES.items():
        # One rank has nothing to reduce.
        shares = phase_shares(m, phase) if phase != "all_reduce" or cell.ranks > 1 else []
        mean, low, high = nested_ci(shares)
        row |= named(column, Interval(mean, low, min(high, 1.0)))
    return row


def _gpu_hours(m: Measured) -> float:
    """Hours of the whole training times GPUs; NaN on CPUs."""
    return whole_hours(m) * m.cell.ranks if m.starts and m.starts[-1].device != "cpu" else math.nan


def _gpu_hours_with_teacher(m: Measured) -> float:
    """GPU-hours of the cell, its teachers and the robust datasets made from them."""
    if not _all_measured(m):
        return math.nan
    # Each GPU times its own chunks of a robust dataset, so their sum is in GPU-hours.
    making = sum(each.hours for each in expenses(m) if each.kind == "robust dataset")
    return making + sum(map(_gpu_hours, (m, *m.teachers)))


def _energy_with_teacher(m: Measured) -> float:
    """Energy in J of the cell and its teachers; NaN where a robust dataset was made, whose energy is not recorded."""
    if not _all_measured(m) or any(each.cell.robust for each in (m, *m.teachers)):
        return math.nan
    return sum(training_joules(each).mean for each in (m, *m.teachers))


def _all_measured(m: Measured) -> bool:
    """True for a cell with ancestors, none of which was trained elsewhere."""
    return bool(m.cell.parents) and not m.cell.outside


def energy_table(energy: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe energy, emissions and price, and the share of the phases that do not compute."""
    kwh = {key: energy[column] / JOULES_PER_KWH for key, column in _IN_KWH.items()}
    rows = with_labels(energy).assign(**kwh)
    columns = [
        *network(rows, "trained_for sigma ranks nodes", width=18),
        *varying(rows, alike("batch", "count")),
        Column("joules_per_epoch", "J/epoch", "rounded", group="energy", optional=BOTH),
        Column("watts", "W", "rounded", writers="text", optional="text"),
        Column("kwh", "training (kWh)", "rounded", "training (kWh)", "energy", optional=BOTH, brief=True),
        Column("kwh_with_teacher", "with teacher (kWh)", "rounded", "+ teacher", "energy", optional=BOTH),
        Column("kg_co2", "kg CO2", "rounded", "training", r"kg CO\textsubscript{2}", optional=BOTH),
        Column(
            "kg_co2_with_teacher", "with teacher (kg)", "rounded", "+ teacher", r"kg CO\textsubscript{2}", optional=BOTH
        ),
        Column("price", "price", "rounded", "training", "price", optional=BOTH),
        Column("price_with_teacher", "price with teacher", "rounded", "+ teacher", "price", optional=BOTH),
        *(
            Column(f"{key}_share", f"{words} %", "percent", words, r"share of the epoch in \%", optional=BOTH)
            for key, words in (("waiting", "waiting"), ("transfer", "transfers"), ("all_reduce", "all-reduce"))
        ),
        *alike("clock", "word", writers="text", optional="text"),
    ]
    rates = " and ".join(_stated(energy))
    caption = f"energy and communication{f' at {rates}' if rates else ''}."
    notes = []
    if energy["joules"].notna().any():
        notes.append("Energy of the GPUs' boards alone, by the driver's counter.")
    if energy["clock"].notna().any():
        clocks = " or ".join(sorted(energy["clock"].dropna().unique()))
        notes.append(f"Shares of an epoch of its own, which waits for every all-reduce (clock: {clocks}).")
    title = f"Energy and communication{f', at {rates}' if rates else ''}"
    yield TableSpec(title, caption, columns, rows, [*notes, INTERVALS])


def _stated(energy: pd.DataFrame) -> Iterator[str]:
    """Yield the stated rates in words."""
    for column, unit in (("grid_intensity", "g CO2 per kWh"), ("hourly_rate", "per GPU-hour")):
        if energy[column].notna().any():
            yield f"{energy[column].iloc[0]:g} {unit}"
