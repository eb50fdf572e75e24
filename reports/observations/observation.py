"""One observation: an estimate, its interval, and the columns that join it with others."""

import math
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from bench.manifest.labels import name
from bench.records import Start
from bench.results.columns import Source
from bench.results.intervals import RUNS
from bench.results.measured import Measured
from bench.results.statistics import CONFIDENCE, Interval
from reports.observations.metrics import METRICS

COLUMNS = {
    "cell": "id of the cell",
    "manifest": "name of the manifest",
    "method": "method with its arguments",
    "architecture": "network",
    "dataset": "training and test images",
    "threat": "norm of the threat: l2 or linf",
    "sigma": "noise level of the threat, for pixels in [0, 1]",
    "eps": "radius of the threat that the network is trained for",
    "seed": "seed of the cell; empty for an estimate over seeds, whose cell is that of the first seed",
    "metric": "name of what is measured, see below",
    "unit": "unit of `estimate`, `low` and `high`",
    "estimate": "the value",
    "low": "lower end of the interval",
    "high": "upper end of the interval",
    "level": "confidence level of the interval",
    "interval": "how the interval is made, see below",
    "n": "number of values behind the estimate: runs, rounds, images, seeds or architectures",
    "commit": "commit of the code that measured, with `-dirty` where files differed from it",
    "date": "start of the (last) attempt that measured, ISO 8601 in UTC",
    "device": "GPU or cpu",
    "torch": "version of torch",
    "radius": "radius at which an accuracy is evaluated",
    "compared_with": "id of the other cell of a ratio, a difference or an expense",
    "evaluation": "label of the evaluation, or of the certification procedure",
    "evaluation_id": "id of the evaluation, as in certificates",
    "run": "run of the study, where the observation belongs to one round",
    "round": "round of the study, or epoch of the training from 1, where the observation belongs to one",
    "study": "id of the timing study",
    "folder": "runs folder of the records",
}
"""Columns of observations, in their order, and their meanings; a value that does not apply is empty."""

INTERVALS = {
    "t over runs": "Student's t over the means of 3 or more runs",
    "t within one run": "Student's t over one run's rounds, corrected for their autocorrelation",
    "t within runs": "the same, combined over 2 runs",
    "paired t of log ratios over runs": "Student's t over the mean log ratios of 3 or more runs, paired by round",
    "paired two-stage t of log ratios over runs": "the same, by the spread of the first runs (Stein's two stages)",
    "paired t of log ratios within one run": "the same over the rounds of one run",
    "paired t of log ratios within runs": "the same, combined over 2 runs",
    "Welch t of log ratios": "Welch's t of the logs of two cells' run means, unpaired",
    "Fieller": "Fieller's interval of the ratio of two means",
    "t of mean log ratios": "Satterthwaite's t of a mean over architectures, by the delta method",
    "Wilson": "Wilson's interval of a share of images or trainings",
    "t over images": "Student's t over images",
    "Newcombe": "Newcombe's interval of the difference of two paired shares",
    "bootstrap over runs": "percentiles of fits to drawn means of runs",
    "t of log times over seeds": "Student's t of the logarithms of the seeds' times",
    "paired bootstrap": "percentile bootstrap over images, paired",
    "score over seeds and images": "score interval of a share, by the two-way variance of seeds and images",
    "t over seeds and images": "t interval of a mean, by the two-way variance of seeds and images",
    "paired t over seeds and images": "the same of the difference of two methods with the same seeds and images",
    "Welch t over seeds and images": "the same of two methods with the same images and different seeds",
    "t over seeds": "Student's t over the seeds' estimates, where seeds have no images in common",
    "Welch t over seeds": "Welch's t over the seeds' estimates of two methods without common images",
}
"""Kinds of interval by the name in the column `interval`."""
Row = dict[str, Any]
"""Values by column."""


def rows(frame: pd.DataFrame) -> list[Row]:
    return frame.to_dict("records")


def last(starts: list[Start]) -> Start | None:
    """Start record of the last attempt."""
    return starts[-1] if starts else None


def observe(
    source: Source, metric: str, value: Interval, made: str = "", n: float = math.nan, start: Start | None = None
) -> Row:
    """One observation of the source's cell; `made`, a key of INTERVALS, counts only where the value has an interval."""
    bounded = not math.isnan(value.low)
    other, spec = source.other, source.spec
    return {
        **_identity(source.cell),
        "metric": metric,
        "unit": METRICS[metric].unit,
        "estimate": value.mean,
        "low": value.low,
        "high": value.high,
        "level": CONFIDENCE if bounded else math.nan,
        "interval": made if bounded else None,
        "n": n,
        **_provenance(start),
        "compared_with": other.id if other else None,
        "evaluation": spec.label if spec else None,
        "evaluation_id": spec.id if spec else None,
    }


def point(value: float) -> Interval:
    """A value without an interval."""
    return Interval(value, math.nan, math.nan)


def interval(row: Row, column: str) -> Interval:
    """The value of a frame's column with its interval, if there is one."""
    low, high = (row.get(f"{column}_{end}", math.nan) for end in ("low", "high"))
    return Interval(row[column], low, high)


def place(m: Measured, run: int, turn: int) -> Row:
    """Run and round of a timed epoch; epochs of a training count from 1, each replay as one."""
    return {"run": run, "round": turn if m.study else (turn + 1) * m.cell.replays}


def basis(runs: list[list[float]]) -> tuple[str, int]:
    """Variation that `nested_ci` and `paired_ratio` make their intervals from, and the number of values."""
    runs = [run for run in runs if len(run)]
    if len(runs) >= RUNS:
        return "over runs", len(runs)
    return f"within {'one run' if len(runs) == 1 else 'runs'}", sum(map(len, runs))


def _identity(m: Measured) -> Row:
    cell = m.cell
    return {
        "cell": m.id,
        "method": name(cell.model_copy(update={"seed": 0})),
        "architecture": cell.arch,
        "dataset": cell.dataset,
        "threat": cell.threat.norm,
        "sigma": cell.threat.sigma,
        "eps": cell.threat.eps,
        "seed": cell.seed,
        "study": m.study,
        "folder": str(m.folder),
    }


def _provenance(start: Start | None) -> Row:
    if start is None:
        return {}
    date = datetime.fromtimestamp(start.time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    commit = start.commit and start.commit + "-dirty" * bool(start.dirty)
    return {"commit": commit, "date": date, "device": start.device, "torch": start.torch}
