"""The tables of times and memory, and the columns of their wide CSV: times, ratios, and the accuracy they achieve."""

import math
from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.manifest.labels import compute, epochs, lineage, name
from bench.manifest.manifest import Manifest
from bench.results.columns import Source, columns, named, number
from bench.results.expenses import expenses, making_hours, whole_hours
from bench.results.intervals import fieller_ratio, nested_ci
from bench.results.judging import certified
from bench.results.measured import Measured
from bench.results.noise import noise_floor
from bench.results.ratios import baseline_as_published, matching_baseline, ratio
from bench.results.robustness import accuracy_at_eps, acr
from bench.results.statistics import NOTHING
from bench.results.warnings import remark
from crt.training.recipe import ARITHMETIC
from reports.render.table_spec import (
    BOTH,
    INTERVALS,
    Column,
    TableSpec,
    alike,
    network,
    varying,
    with_labels,
)
from reports.tables.noise import NOISE_FLOOR, ratio_of_times, with_marks
from reports.tables.teachers import unknown

TIMING = (
    "dataset,arch,method,baseline,runs,rounds,batch,precision,loader,device,s_per_epoch,s_per_epoch_low,"
    "s_per_epoch_high,images_per_s,memory_mb,slowdown,slowdown_low,slowdown_high,ideal,efficiency,hours,"
    "hours_with_teacher,paper_s_per_epoch,paper_slowdown,paper_hours,efficiency_low,efficiency_high,pair,"
    "as_published,as_published_low,as_published_high,unpaired,unpaired_low,unpaired_high,"
    "fieller,fieller_low,fieller_high,unlike,loader_share,ranks,nodes,teacher,sigma,acr,acr_low,acr_high,"
    "clean,clean_low,clean_high,at_eps,at_eps_low,at_eps_high,at_eps_by,paper_hours_with_teacher,epochs,hours_making,"
    "host_memory_mb,norm,trained_eps,remarks,teacher_hours_unknown,id,seed,noise_floor,"
    "certified,certified_low,certified_high,compute"
).split(",")


def timing(manifest: Manifest, measured: list[Measured], allow: Collection[str] = ()) -> pd.DataFrame:
    """A row per cell; seconds are those of an epoch over the whole dataset.

    ValueError for a ratio of times that differ in a field that is not in `allow`."""
    rows = [_timing_row(manifest, m, allow) | {"folder": str(m.folder)} for m in measured]
    return pd.DataFrame(rows, columns=columns(TIMING, measured))


def _timing_row(manifest: Manifest, m: Measured, allow: Collection[str]) -> dict:
    cell, recipe_base = m.cell, baseline_as_published(manifest, m)
    matching = matching_baseline(manifest, m)
    # Without a baseline at this batch size and precision, the ratio is that of the published recipes.
    base = matching or recipe_base
    slowdown = ratio(m, base, manifest.timing is not None, allow)
    published = ratio(m, recipe_base, manifest.timing is not None, {*allow, *ARITHMETIC}).interval
    unpaired = ratio(m, base, False, allow).interval
    timed = base is not None and base is not m and m.runs and base.runs
    fieller = fieller_ratio(m.seconds, base.seconds) if base is not None and timed else NOTHING
    ideal = m.flops / base.flops if base and m.flops and base.flops else math.nan
    hours, needed = whole_hours(m), [each.hours for each in expenses(m)]
    epoch, accuracy = nested_ci(m.seconds), accuracy_at_eps(m)
    memories = [peak for run in m.runs.values() for e in run.values() if (peak := e.peak_memory) is not None]
    return {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "baseline": manifest.baseline,
        "runs": len(m.runs) or math.nan,
        "rounds": max((len(run) for run in m.runs.values()), default=math.nan),
        "batch": cell.recipe.batch_size,
        "precision": cell.recipe.precision,
        "compute": compute(cell.recipe),
        "loader": cell.loader,
        "device": m.starts[-1].device if m.starts else None,
        **named("s_per_epoch", epoch),
        "images_per_s": cell.data.train_images / epoch.mean,
        "memory_mb": max(memories, default=math.nan),
        **named("slowdown", slowdown.interval),
        "ideal": ideal,
        "efficiency": ideal / slowdown.interval.mean,
        "hours": hours,
        "hours_with_teacher": hours + sum(needed) if needed else math.nan,
        "paper_s_per_epoch": number(cell.paper.s_per_epoch),
        "paper_slowdown": number(cell.paper.slowdown),
        "paper_hours": number(cell.paper.hours),
        "efficiency_low": ideal / slowdown.interval.high,
        "efficiency_high": ideal / slowdown.interval.low,
        "pair": ("like for like" if matching else "as published") if base and m is not base else None,
        **named("as_published", published),
        **named("unpaired", unpaired),
        **named("fieller", fieller),
        "unlike": " ".join(slowdown.unlike) or None,
        "loader_share": share_of_loader(m),
        "ranks": cell.ranks,
        "nodes": cell.nodes,
        "teacher": lineage(cell.teacher),
        "sigma": cell.threat.sigma,
        **named("certified", certified(m)),
        **named("acr", acr(m)),
        **named("clean", accuracy.clean),
        **named("at_eps", accuracy.robust),
        "at_eps_by": accuracy.by,
        "paper_hours_with_teacher": number(cell.paper.hours_with_teacher),
        "epochs": epochs(cell),
        "hours_making": making_hours(m) if cell.robust else math.nan,
        "norm": cell.threat.norm,
        "trained_eps": cell.threat.eps,
        "host_memory_mb": math.nan if m.host_memory is None else m.host_memory,
        "remarks": remark(m),
        "teacher_hours_unknown": unknown(m),
        "id": m.id,
        "source": Source(m),
        "seed": cell.seed,
        "noise_floor": noise_floor(m),
    }


def share_of_loader(m: Measured) -> float:
    """Share of an epoch that the host waits for its batches."""
    shares = [(p.host["loader"] + p.host["transfer"]) / sum(p.host.values()) for p in m.phases]
    return float(np.mean(shares)) if shares else math.nan


def time_table(timing: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the times and, where it was measured, the accuracy of the trained networks."""
    twice = timing.duplicated(["dataset", "arch", "method", "batch", "ranks", "nodes", "sigma", "epochs"]).any()
    published = timing["as_published"].notna() & (timing["as_published"] != timing["slowdown"])
    accurate, at_eps = timing["at_eps"].notna().any(), (r"at $\varepsilon$", r"accuracy in \%")
    clean = Column("clean", "clean", "percent", "clean", at_eps[1])
    fields = [fields.split() if isinstance(fields, str) else [] for fields in timing["unlike"]]
    rows = with_marks(with_labels(timing), "slowdown as_published")
    unlike = [[f"unlike {field}" for field in names] for names in fields]
    rows = rows.assign(slowdown_marks=[a + b for a, b in zip(unlike, rows["slowdown_marks"], strict=True)])
    columns = [
        *network(rows, "trained_for sigma ranks nodes", width=16 if accurate else 26, teacher=twice),
        *varying(timing, [*alike("epochs", "count"), *alike("precision compute", "label", writers="text")]),
        Column("batch", "batch", "count", hide=3),
        Column("s_per_epoch", "s/epoch", "rounded", hide=10),
        Column("images_per_s", "images/s", "rounded", writers="text", hide=2),
        ratio_of_times("slowdown", "slowdown", "measured", "slowdown"),
        NOISE_FLOOR,
        *([ratio_of_times("as_published", "as published", None, "slowdown", hide=6)] if published.any() else []),
        Column("ideal", "ideal", "ratio", group="slowdown", hide=5),
        Column("efficiency", "efficiency", "ratio", hide=4),
        Column("loader_share", "loader %", "percent", writers="text", optional="text", hide=1),
        Column("hours", "training", "span", "own", "hours", hide=9),
        Column("hours_with_teacher", "with teacher", "span", "+ teacher", "hours", optional="text", hide=8),
        Column("certified", "certified at 2 sigma", "percent", r"at $2\sigma$", at_eps[1], optional=BOTH, brief=True),
        *([replace(clean, optional="text", brief=True, hide=7)] if accurate else []),
        Column("at_eps", "accuracy at eps", "percent", *at_eps, optional=BOTH, brief=True),
        Column("acr", "ACR", "radius", optional=BOTH, brief=True, hide=1),
    ]
    yield TableSpec("Time", "time.", columns, rows, [INTERVALS])


def published_time_table(timing: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the times beside those of papers, where papers print them; text has these among the claims."""
    if timing.filter(regex="^paper_").isna().all(axis=None):
        return
    rows = with_labels(timing)
    columns = network(rows)
    for key, form, group in (
        ("s_per_epoch", "significant", "s/epoch"),
        ("slowdown", "ratio", "slowdown"),
        ("hours", "hours", "hours"),
        ("hours_with_teacher", "hours", "with teacher"),
    ):
        if key != "hours_with_teacher" or timing[f"paper_{key}"].notna().any():
            columns.append(Column(key, "measured", form, group=group, brief=True))
            columns.append(Column(f"paper_{key}", "published", form, group=group))
    caption = "time, as measured and as published."
    yield TableSpec("Time, as measured and as published", caption, columns, rows, writers="latex")


def memory_table(timing: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe peak memory, where it was measured."""
    if timing[["memory_mb", "host_memory_mb"]].notna().any(axis=None):
        memories = (("memory_mb", "GPU"), ("host_memory_mb", "host"))
        memory = [Column(key, heading, "rounded", group="MB") for key, heading in memories]
        rows, scope = with_labels(timing), "GPU in one epoch, host over the whole training"
        columns = [*network(rows), *alike("batch", "count", writers="text"), *memory]
        yield TableSpec(f"Peak memory in MB: {scope}", f"peak memory: {scope}.", columns, rows)
