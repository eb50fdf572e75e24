"""The timing table and the robustness table, in the columns of the CSV."""

import math

import numpy as np
import pandas as pd

from bench.cells import Cell, Manifest
from crt.data import DATASETS
from reports.load import Measured, unlike
from reports.stats import NOTHING, Interval, mean_ci, nested_ci, wilson

TIMING = (
    "dataset,arch,method,baseline,runs,rounds,batch,precision,loader,device,s_per_epoch,s_per_epoch_low,"
    "s_per_epoch_high,images_per_s,memory_mb,slowdown,slowdown_low,slowdown_high,ideal,efficiency,hours,"
    "hours_with_teacher,paper_s_per_epoch,paper_slowdown,paper_hours"
).split(",")
_LARGEST = 3.8115
"""Radii over sigma that n = 100,000 draws at alpha = 0.001 can certify (all of them agreeing)."""
_STEP = 0.25


def timing(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row a cell; seconds are of a whole epoch of the dataset. ValueError for a ratio of unlike things."""
    rows = []
    for m in measured:
        beside = [other for other in measured if other.folder == m.folder]
        times = {other.cell.id: _hours(other) for other in beside}
        rows.append(_timing_row(manifest, m, _baseline(manifest, m, beside), times) | {"folder": str(m.folder)})
    return pd.DataFrame(rows, columns=_columns(TIMING, measured))


def _columns(names: list[str], measured: list[Measured]) -> list[str]:
    """The folder is a column where there are several."""
    return names + ["folder"] * (len({m.folder for m in measured}) > 1)


def _timing_row(manifest: Manifest, m: Measured, baseline: Measured | None, times: dict[str, float]) -> dict:
    cell, seconds = m.cell, _seconds(m)
    epoch = nested_ci(seconds)
    slowdown = _slowdown(m, baseline, paired=manifest.timing is not None) if baseline else NOTHING
    ideal = m.flops / baseline.flops if baseline and m.flops and baseline.flops else math.nan
    memories = [e.memory for run in m.runs for e in run.values() if e.memory is not None]
    return {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "baseline": manifest.baseline,
        "runs": len(m.runs) or math.nan,
        "rounds": max((len(run) for run in m.runs), default=math.nan),
        "batch": cell.recipe.batch_size,
        "precision": cell.recipe.precision,
        "loader": cell.loader,
        "device": m.starts[-1].device if m.starts else None,
        "s_per_epoch": epoch.mean,
        "s_per_epoch_low": epoch.low,
        "s_per_epoch_high": epoch.high,
        "images_per_s": DATASETS[cell.dataset].train_images / epoch.mean,
        "memory_mb": max(memories, default=math.nan),
        "slowdown": slowdown.mean,
        "slowdown_low": slowdown.low,
        "slowdown_high": slowdown.high,
        "ideal": ideal,
        "efficiency": ideal / slowdown.mean,
        "hours": times[cell.id],
        "hours_with_teacher": times[cell.id] + _lineage_hours(cell.teacher, times) if cell.teacher else math.nan,
        "paper_s_per_epoch": _number(cell.paper.s_per_epoch),
        "paper_slowdown": _number(cell.paper.slowdown),
        "paper_hours": _number(cell.paper.hours),
    }


def _seconds(m: Measured) -> list[list[float]]:
    """Run by run, seconds of each timed epoch, brought to the whole training set."""
    whole = DATASETS[m.cell.dataset].train_images
    return [[e.seconds * whole / e.images for e in run.values()] for run in m.runs]


def _hours(m: Measured) -> float:
    """Computed: seconds an epoch x the recipe's epochs."""
    return nested_ci(_seconds(m)).mean * m.cell.recipe.epochs / 3600


def _lineage_hours(teacher: Cell | None, times: dict[str, float]) -> float:
    """Hours of every teacher before a cell; NaN unless each was timed here."""
    if teacher is None:
        return 0.0
    return times.get(teacher.id, math.nan) + _lineage_hours(teacher.teacher, times)


def _baseline(manifest: Manifest, m: Measured, measured: list[Measured]) -> Measured | None:
    """The cell of the baseline method that shares dataset, architecture, loader, precision and ranks."""
    shape = lambda c: (c.dataset, c.arch, c.pipeline, c.loader, c.recipe.precision, c.ranks, c.nodes)  # noqa: E731
    for other in measured:
        if other.cell.method.name == manifest.baseline and shape(other.cell) == shape(m.cell):
            return other
    return None


def _slowdown(m: Measured, baseline: Measured, paired: bool) -> Interval:
    """Ratio of geometric means; paired by run and round where both were timed in one process."""
    if m is baseline:
        return Interval(1.0, math.nan, math.nan) if m.runs else NOTHING
    if not m.runs or not baseline.runs:
        return NOTHING
    field = unlike(m, baseline)
    if field:
        raise ValueError(f"{m.cell.id} and {baseline.cell.id} cannot be compared: they differ in {field}")
    if not paired:
        log = [np.log(np.concatenate(_seconds(one)) if one.runs else []) for one in (m, baseline)]
        if not len(log[0]) or not len(log[1]):
            return NOTHING
        return Interval(float(np.exp(log[0].mean() - log[1].mean())), math.nan, math.nan)
    per_image = lambda e: e.seconds / e.images  # noqa: E731
    ratios = [
        [math.log(per_image(mine[k]) / per_image(theirs[k])) for k in sorted(mine.keys() & theirs.keys())]
        for mine, theirs in zip(m.runs, baseline.runs, strict=False)
    ]
    return Interval(*map(math.exp, nested_ci(ratios)))


def robustness(measured: list[Measured]) -> pd.DataFrame:
    """A row a cell and certificate; certified accuracy at r counts prediction = label and radius >= r."""
    rows = []
    for m in measured:
        for spec in m.cell.evals:
            if spec.name in ("Clean", "Noisy") and len(m.cell.evals) > 1:
                continue
            rows.append(_robustness_row(m, spec))
    frame = pd.DataFrame(rows)
    return frame if frame.empty else frame[_columns([name for name in frame if name != "folder"], measured)]


def _robustness_row(m: Measured, spec) -> dict:
    cell, verdicts = m.cell, list(m.verdicts.get(spec.id, {}).values())
    radii = np.array([v.radius if v.prediction == v.label else -1.0 for v in verdicts])
    plain = {s.name: list(m.verdicts.get(s.id, {}).values()) for s in cell.evals if s.name in ("Clean", "Noisy")}
    row = {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "teacher": lineage(cell.teacher),
        "eval": spec.label,
        "folder": str(m.folder),
        "sigma": cell.threat.sigma,
        "eps": cell.threat.eps,
        "epochs": f"{m.epochs}/{cell.recipe.epochs}",
        "images": len(verdicts) or math.nan,
        "skipped": 0 if verdicts else math.nan,
        "abstained": np.mean([v.prediction == -1 for v in verdicts]) if verdicts else math.nan,
    }
    row |= _named("clean", _share(plain.get("Clean", [])))
    if "Noisy" in plain:
        row |= _named("noisy", _share(plain["Noisy"]))
    if spec.name == "Smoothing":
        row |= _named("acr", mean_ci(list(radii.clip(0))))
        for r in np.arange(0, _LARGEST * cell.threat.sigma, _STEP):
            row |= _named(f"certified_at_{r:.2f}", wilson(int((radii >= r).sum()), len(radii)))
        row["paper_acr"] = _number(cell.paper.acr)
        row |= {f"paper_certified_at_{r:.2f}": percent / 100 for r, percent in cell.paper.certified.items()}
    return row


def _share(verdicts: list) -> Interval:
    return wilson(sum(v.prediction == v.label for v in verdicts), len(verdicts))


def _named(column: str, interval: Interval) -> dict[str, float]:
    return {column: interval.mean, f"{column}_low": interval.low, f"{column}_high": interval.high}


def name(cell: Cell) -> str:
    """The method as a report calls it: with the arguments that must be named, and its seed where it is not 0."""
    return cell.method.label + (f" seed {cell.seed}" if cell.seed else "")


def lineage(teacher: Cell | None) -> str | None:
    """The chain of teachers, nearest first."""
    if teacher is None:
        return None
    before = lineage(teacher.teacher)
    return f"{teacher.arch} {name(teacher)}" + (f" <- {before}" if before else "")


def _number(value: float | None) -> float:
    return math.nan if value is None else value
