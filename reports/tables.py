"""The timing table and the robustness table, in the columns of the CSV."""

import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from bench.cells import Cell, Manifest, Weights
from bench.records import Verdict
from crt.data import DATASETS
from reports.load import Measured
from reports.ratios import like_base, published_base, ratio, seconds
from reports.stats import NOTHING, Interval, fieller_ratio, mean_ci, nested_ci, wilson

TIMING = (
    "dataset,arch,method,baseline,runs,rounds,batch,precision,loader,device,s_per_epoch,s_per_epoch_low,"
    "s_per_epoch_high,images_per_s,memory_mb,slowdown,slowdown_low,slowdown_high,ideal,efficiency,hours,"
    "hours_with_teacher,paper_s_per_epoch,paper_slowdown,paper_hours,efficiency_low,efficiency_high,pair,"
    "as_published,as_published_low,as_published_high,unpaired,unpaired_low,unpaired_high,"
    "fieller,fieller_low,fieller_high,unlike,loader_share,ranks,nodes,teacher,sigma,acr,acr_low,acr_high"
).split(",")
_LARGEST = 3.8115
"""Radii over sigma that n = 100,000 draws at alpha = 0.001 can certify (all of them agreeing)."""
_STEP = 0.25


def timing(manifest: Manifest, measured: list[Measured], allow: Collection[str] = ()) -> pd.DataFrame:
    """A row a cell; seconds are of a whole epoch of the dataset. ValueError for a ratio of unlike things."""
    hours = {
        folder: {m.cell.id: whole_hours(m) for m in measured if m.folder == folder} for folder in _folders(measured)
    }
    rows = [_timing_row(manifest, m, measured, hours[m.folder], allow) | {"folder": str(m.folder)} for m in measured]
    return pd.DataFrame(rows, columns=columns(TIMING, measured))


def columns(names: list[str], measured: list[Measured]) -> list[str]:
    """The folder is a column where there are several."""
    return names + ["folder"] * (len(_folders(measured)) > 1)


def _folders(measured: list[Measured]) -> set[Path]:
    return {m.folder for m in measured}


def _timing_row(
    manifest: Manifest, m: Measured, measured: list[Measured], times: dict[str, float], allow: Collection[str]
) -> dict:
    cell, own = m.cell, published_base(manifest, m, measured)
    like = like_base(manifest, m, measured)
    # Without a twin of the baseline in this batch size, the ratio is the published recipes' as they are.
    base = like or own
    slowdown = ratio(m, base, manifest.timing is not None, allow)
    published = ratio(m, own, manifest.timing is not None, {*allow, "precision"}).interval
    apart = ratio(m, base, False, allow).interval
    both = base is not None and base is not m and m.runs and base.runs
    fieller = fieller_ratio(seconds(m), seconds(base)) if both else NOTHING
    ideal = m.flops / base.flops if base and m.flops and base.flops else math.nan
    epoch = nested_ci(seconds(m))
    memories = [e.memory for run in m.runs.values() for e in run.values() if e.memory is not None]
    return {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "baseline": manifest.baseline,
        "runs": len(m.runs) or math.nan,
        "rounds": max((len(run) for run in m.runs.values()), default=math.nan),
        "batch": cell.recipe.batch_size,
        "precision": cell.recipe.precision,
        "loader": cell.loader,
        "device": m.starts[-1].device if m.starts else None,
        **named("s_per_epoch", epoch),
        "images_per_s": DATASETS[cell.dataset].train_images / epoch.mean,
        "memory_mb": max(memories, default=math.nan),
        **named("slowdown", slowdown.interval),
        "ideal": ideal,
        "efficiency": ideal / slowdown.interval.mean,
        "hours": times[cell.id],
        "hours_with_teacher": times[cell.id] + _lineage_hours(cell, times) if cell.teacher else math.nan,
        "paper_s_per_epoch": _number(cell.paper.s_per_epoch),
        "paper_slowdown": _number(cell.paper.slowdown),
        "paper_hours": _number(cell.paper.hours),
        "efficiency_low": ideal / slowdown.interval.high,
        "efficiency_high": ideal / slowdown.interval.low,
        "pair": ("like for like" if like else "as published") if base and m is not base else None,
        **named("as_published", published),
        **named("unpaired", apart),
        **named("fieller", fieller),
        "unlike": " ".join(slowdown.unlike) or None,
        "loader_share": _share_of_loader(m),
        "ranks": cell.ranks,
        "nodes": cell.nodes,
        "teacher": lineage(cell.teacher),
        "sigma": cell.threat.sigma,
        **named("acr", _acr(m)),
    }


def _share_of_loader(m: Measured) -> float:
    """Of an epoch, what the host waits for its batches."""
    shares = [(p.host["loader"] + p.host["transfer"]) / sum(p.host.values()) for p in m.phases]
    return float(np.mean(shares)) if shares else math.nan


def _acr(m: Measured) -> Interval:
    """What the time bought: the ACR of its first certificate by smoothing."""
    found = next((m.verdicts.get(spec.id, {}) for spec in m.cell.evals if spec.name == "Smoothing"), {})
    return _average(_radii(found.values()))


def _average(radii: np.ndarray) -> Interval:
    """Their mean, 0 for wrong ones, with its interval; equal radii do not tell how others would differ."""
    found = mean_ci(list(radii.clip(0)))
    return found if len(set(radii.clip(0))) > 1 else Interval(found.mean, math.nan, math.nan)


def whole_hours(m: Measured) -> float:
    """Computed: seconds an epoch x the recipe's epochs."""
    return nested_ci(seconds(m)).mean * m.cell.recipe.epochs / 3600


def _lineage_hours(cell: Cell, times: dict[str, float]) -> float:
    """Hours of every teacher before a cell; NaN unless each was timed here."""
    if any(isinstance(one.teacher, Weights) for one in (cell, *cell.lineage)):
        return math.nan
    return sum(times.get(teacher.id, math.nan) for teacher in cell.lineage)


def robustness(measured: list[Measured]) -> pd.DataFrame:
    """A row a cell and certificate; certified accuracy at r counts prediction = label and radius >= r.

    ACR is over all images judged, with 0 for those wrong, skipped or abstained on. Where wrong images are skipped, how
    many would have been abstained on is not known.
    """
    rows = []
    for m in measured:
        for spec in m.cell.evals:
            if spec.name in ("Clean", "Noisy") and len(m.cell.evals) > 1:
                continue
            rows.append(_robustness_row(m, spec))
    frame = pd.DataFrame(rows)
    return frame if frame.empty else frame[columns([name for name in frame if name != "folder"], measured)]


def _robustness_row(m: Measured, spec) -> dict:
    cell, verdicts = m.cell, list(m.verdicts.get(spec.id, {}).values())
    radii = _radii(verdicts)
    plain = {s.name: list(m.verdicts.get(s.id, {}).values()) for s in cell.evals if s.name in ("Clean", "Noisy")}
    known = not spec.args.get("skip_wrong")
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
        "skipped": sum(v.skipped for v in verdicts) if verdicts else math.nan,
        "abstained": np.mean([v.prediction == -1 for v in verdicts]) if verdicts and known else math.nan,
        "judge_seconds": sum(v.seconds for v in verdicts) if verdicts else math.nan,
    }
    row |= named("clean", _share(plain.get("Clean", [])))
    if "Noisy" in plain:
        row |= named("noisy", _share(plain["Noisy"]))
    if spec.name == "Smoothing":
        row |= named("acr", _average(radii))
        for r in np.arange(0, _LARGEST * cell.threat.sigma, _STEP):
            row |= named(f"certified_at_{r:.2f}", wilson(int((radii >= r).sum()), len(radii)))
        row["paper_acr"] = _number(cell.paper.acr)
        row |= {f"paper_certified_at_{r:.2f}": percent / 100 for r, percent in cell.paper.certified.items()}
    return row


def _radii(verdicts: Iterable[Verdict]) -> np.ndarray:
    """Certified radii, -1 where the class is wrong."""
    return np.array([v.radius if v.prediction == v.label else -1.0 for v in verdicts])


def _share(verdicts: list) -> Interval:
    return wilson(sum(v.prediction == v.label for v in verdicts), len(verdicts))


def named(column: str, interval: Interval) -> dict[str, float]:
    """An interval as three columns."""
    return {column: interval.mean, f"{column}_low": interval.low, f"{column}_high": interval.high}


def name(cell: Cell) -> str:
    """The method as a report calls it: with the arguments that must be named, and its seed where it is not 0."""
    bare = ", bare loop" if cell.loop == "bare" else ""
    return cell.method.label + bare + (f" seed {cell.seed}" if cell.seed else "")


def lineage(teacher: Cell | Weights | None) -> str | None:
    """The chain of teachers, nearest first."""
    if teacher is None:
        return None
    if isinstance(teacher, Weights):
        return f"{teacher.arch} weights {teacher.sha256[:8]}"
    before = lineage(teacher.teacher)
    return f"{teacher.arch} {name(teacher)}" + (f" <- {before}" if before else "")


def _number(value: float | None) -> float:
    return math.nan if value is None else value
